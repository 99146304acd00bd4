"""Batches in which every one of N images is added to every one of A arms' patterns, through the first linear layers.

Of such a batch a linear layer needs to compute the N and the A alone: L(x + p) = L(x) + L(p) without the constant. The
first layer is what this is for: its gradient, to few channels, is the slowest of a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ._linear import ENDINGS, EXPOSING, HARMLESS, IN_PLACE, RULES

EXACT = (torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sum:
    """``images``, float ``(N, ...)``, and ``arms``, float ``(A, ...)``, that stand for each one's sum with each."""

    images: torch.Tensor
    arms: torch.Tensor

    def batch(self) -> torch.Tensor:
        """Float ``(A, N, ...)``."""
        return self.images[None] + self.arms[:, None]

    def flat(self) -> torch.Tensor:
        """Float ``(A · N, ...)``, in the memory format of ``images``."""
        if self.images.is_contiguous() or not self.images.is_contiguous(memory_format=torch.channels_last):
            return self.batch().flatten(0, 1)
        inner = Sum(images=self.images.permute(0, 2, 3, 1), arms=self.arms.permute(0, 2, 3, 1).contiguous())
        return inner.flat().permute(0, 3, 1, 2)


class NotSeparableError(RuntimeError):
    """The network looks at how its output depends on its input, which differs where parts are computed."""


class _Known:
    """A tensor and its parts, as long as nothing has changed its values or how its gradient is computed."""

    def __init__(self, tensor: torch.Tensor, parts: Sum) -> None:
        self.tensor = tensor
        self._parts: Sum | None = parts
        self._version, self._grad_fn = tensor._version, tensor.grad_fn

    def parts(self) -> Sum | None:
        # What is made within an autograd function is given that function's gradient when it is handed out.
        same = self.tensor._version == self._version and self.tensor.grad_fn is self._grad_fn
        return self._parts if same else None

    def forget(self) -> None:
        self._parts = None


class LinearInParts(TorchFunctionMode):
    """While it is entered, the first linear layers of what is computed from ``whole`` are computed of its ``parts``.

    ``whole``: float ``(A · N, ...)``, ``parts.flat()`` in any memory format. Every tensor that a network sees is a
    whole, ordinary one, so that whatever is not known here is computed as ever: only a layer, and what stands before
    it, whose function is listed in ``_linear`` is taken apart, and only while nothing else may have changed its input.
    The gradients of ``parts`` are those of the whole; the rounding differs. Raises NotSeparableError where a network
    asks for a gradient of its own to what was taken apart.
    """

    def __init__(self, whole: torch.Tensor, parts: Sum) -> None:
        super().__init__()
        self._known: dict[int, _Known] = {}
        self._register(whole, parts)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called in place of every torch function; see torch.overrides."""
        kwargs = kwargs or {}
        met = [self._known[id(value)] for value in _flat((*args, *kwargs.values())) if id(value) in self._known]
        if not met or func in HARMLESS:
            return func(*args, **kwargs)
        if func in EXPOSING:
            raise NotSeparableError(f"{func} of the network's input")
        parts = self._apart(func, args, kwargs, met)
        if parts is not None and func in ENDINGS:
            return parts.flat()
        result = func(*args, **kwargs)
        if func not in RULES or func in IN_PLACE:
            # What is not listed may hand on the memory unseen, and a later change of it with that.
            for known in met:
                known.forget()
        if parts is not None and _fits(result, parts):
            self._register(result, parts)
        return result

    def _apart(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], met: list[_Known]
    ) -> Sum | None:
        known, rule = met[0], RULES.get(func)
        parts = known.parts()
        if rule is None or len(met) > 1 or parts is None or torch.is_autocast_enabled(known.tensor.device.type):
            return None
        made = rule(func, known.tensor, (parts.images, parts.arms), args, kwargs)
        return None if made is None else Sum(images=made[0], arms=made[1])

    def _register(self, tensor: torch.Tensor, parts: Sum) -> None:
        self._known[id(tensor)] = _Known(tensor, parts)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _fits(result: Any, parts: Sum) -> bool:
    """Whether the parts are of a batch of this shape, the samples still first: a transposition may move them."""
    if not isinstance(result, torch.Tensor) or result.is_inference() or result.dtype not in EXACT:
        return False
    images, arms = parts.images, parts.arms
    return (
        images.dtype == arms.dtype == result.dtype
        and len(images) * len(arms) == len(result)
        and images.shape[1:] == arms.shape[1:] == result.shape[1:]
    )
