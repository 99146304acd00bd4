"""Convolution and transposed convolution over one to three spatial dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional

from ._registry import Node, limited, operator
from ._windows import Windows, explicit_pads, pad_spatial, per_dimension, read_windows

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@operator("Conv")
def convolve(node: Node, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve (N, C, ...) with (M, C / groups, ...), as ONNX Conv does; used by the quantised forms too."""
    rank = _spatial_rank(node, value, weight)
    windows = read_windows(node, value.shape[2:], weight.shape[2:])
    padding: Sequence[int] = windows.begin
    if windows.begin != windows.end:
        value, padding = pad_spatial(node, value, windows.begin, windows.end, 0.0), (0,) * rank
    else:
        limited(node, [value.shape[1], *(n + 2 * p for n, p in zip(value.shape[2:], padding, strict=True))])
    group = node.integer("group", 1)
    return _CONVOLUTIONS[rank](value, weight, bias, windows.strides, padding, windows.dilations, group)


@operator("ConvTranspose")
def _convolve_transposed(node: Node, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = _spatial_rank(node, value, weight)
    zeros = (0,) * rank
    windows = Windows(
        tuple(weight.shape[2:]),
        per_dimension(node, "strides", rank, 1, 1),
        per_dimension(node, "dilations", rank, 1, 1),
        zeros,
        zeros,
    )
    lengths = [
        (length - 1) * stride + extent
        for length, stride, extent in zip(value.shape[2:], windows.strides, windows.extents, strict=True)
    ]
    limited(node, [weight.shape[1], *lengths])
    group = node.integer("group", 1)
    result = _TRANSPOSED[rank](value, weight, None, windows.strides, zeros, zeros, group, windows.dilations)
    # Cropped by hand, since torch knows neither asymmetric pads nor output_shape; the bias also covers what is added.
    begin, end = _crops(node, value.shape[2:], lengths, windows)
    result = pad_spatial(node, result, begin, end, 0.0)
    return result if bias is None else result + bias.reshape(-1, *([1] * rank))


def _crops(node: Node, spatial: Sequence[int], lengths: Sequence[int], windows: Windows) -> tuple[list[int], list[int]]:
    rank = len(spatial)
    extra = per_dimension(node, "output_padding", rank, 0, 0)
    wanted = node.integers("output_shape")
    mode = node.text("auto_pad", "NOTSET")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [length * stride for length, stride in zip(spatial, windows.strides, strict=True)]
    if wanted is None:
        begin, end = explicit_pads(node, rank) if mode == "NOTSET" else ((0,) * rank, (0,) * rank)
    else:
        totals = [n + e - w for n, e, w in zip(lengths, extra, wanted[-rank:], strict=True)]
        smaller, larger = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begin, end = (smaller, larger) if mode == "SAME_UPPER" else (larger, smaller)
    return [-b for b in begin], [e - cut for e, cut in zip(extra, end, strict=True)]


def _spatial_rank(node: Node, value: Tensor, weight: Tensor) -> int:
    rank = value.dim() - 2
    if rank not in _CONVOLUTIONS or weight.dim() != value.dim():
        raise node.unsupported(f"an input of {value.dim()} dimensions with weights of {weight.dim()}")
    stated = node.integers("kernel_shape")
    if stated is not None and stated != list(weight.shape[2:]):
        raise node.malformed("kernel_shape", f"the weights' {list(weight.shape[2:])}", stated)
    return rank
