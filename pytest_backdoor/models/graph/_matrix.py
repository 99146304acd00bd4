"""Matrix products: MatMul, Gemm, Einsum and the attention operator."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ._registry import Node, Result, limited, operator


@operator("MatMul")
def multiply(node: Node, left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices as numpy.matmul does; used by the quantised forms too."""
    if left.dim() and right.dim():
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        result = [*batch, *left.shape[-2:-1], *right.shape[-1:]]
        if math.prod(result) > max(left.numel(), right.numel(), 2**20) * 64:
            limited(node, result)
    return torch.matmul(left, right)


@operator("Gemm")
def _gemm(node: Node, left: Tensor, right: Tensor, addend: Tensor | None = None) -> Tensor:
    left = left.T if node.integer("transA", 0) else left
    right = right.T if node.integer("transB", 0) else right
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    product = multiply(node, left, right)
    product = product if alpha == 1.0 else product * alpha
    if addend is None:
        return product
    return product + (addend if beta == 1.0 else addend * beta)


@operator("Einsum")
def _einsum(node: Node, *values: Tensor) -> Tensor:
    equation = node.text("equation", "").replace(" ", "")
    # Shapes alone first: an equation such as "a,b,c->abc" can ask for any amount of memory.
    limited(node, torch.einsum(equation, *(torch.empty(value.shape, device="meta") for value in values)).shape)
    return torch.einsum(equation, *values)


@operator("Attention", host_inputs=(6,))
def _attention(
    node: Node,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    key_lengths: Tensor | None = None,
) -> Result:
    _refuse_generation(node, past_key, past_value, key_lengths)
    packed = query.dim() == 3
    if packed:
        query = _split_heads(node, query, "q_num_heads")
        key, value = (_split_heads(node, part, "kv_num_heads") for part in (key, value))
    if query.shape[1] != key.shape[1]:  # grouped queries: several heads share a key
        repeats = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
    scale = node.real("scale", 1.0 / math.sqrt(query.shape[-1]))
    limited(node, [*query.shape[1:3], key.shape[2]])
    scores = query @ key.transpose(-1, -2) * scale
    cap = node.real("softcap", 0.0)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    scores = _masked(node, scores, mask)
    # A query that may look at nothing gets zeros instead of NaN.
    weights = scores.softmax(-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0.0)
    result = weights @ value
    return result.transpose(1, 2).flatten(2) if packed else result


def _refuse_generation(node: Node, *unexpected: Tensor | None) -> None:
    if any(tensor is not None for tensor in unexpected) or node.outputs > 1:
        raise node.unsupported("cached keys, padded keys or a second output")
    if node.integer("left_window_size", -1) != -1 or node.integer("right_window_size", -1) != -1:
        raise node.unsupported("a local window")


def _split_heads(node: Node, value: Tensor, attribute: str) -> Tensor:
    heads = node.integer(attribute, 0)
    if heads < 1 or value.shape[-1] % heads:
        raise node.malformed(attribute, f"a divisor of {value.shape[-1]}", heads)
    return value.reshape(*value.shape[:2], heads, -1).transpose(1, 2)


def _masked(node: Node, scores: Tensor, mask: Tensor | None) -> Tensor:
    if node.integer("is_causal", 0):
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
