"""The one interface through which checks look at a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch


@runtime_checkable
class Classifier(Protocol):
    """An image classifier.

    ``input_shape`` is (channels, height, width), ``classes`` the number of outputs.
    """

    input_shape: tuple[int, int, int]
    classes: int

    def logits(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Float32 ``(N, classes)`` for float32 ``(N, C, H, W)`` images in [0, 1].

        Each row is shifted to mean zero. Logits, log-softmax and softmax outputs of one network so give the same
        values up to rounding, since they differ by a constant in each row. Raises ModelError if an output is not
        finite.
        """
        ...

    def differentiable(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """The same function in torch: float ``(N, C, H, W)`` images in [0, 1] to logits, with gradients.

        Raises NotAssessableError if that cannot be had for this model.
        """
        ...


def as_logits(outputs: np.ndarray[Any, Any], *, path: str) -> np.ndarray[Any, Any]:
    """Centred float32 logits of raw ``(N, classes)`` outputs that are logits, log-softmax or softmax values.

    Softmax outputs are recognised by their rows: no entry below 0 and a sum of 1. Raises ModelError if a value is
    not finite.
    """
    import numpy as np

    values = outputs.astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelError(
            f"{path} gives outputs that are not finite numbers (NaN or infinity), so nothing can be said about it; "
            "check its weights, and the declared input_range, mean and std."
        )
    if is_softmax(values):
        # The smallest positive float32 keeps a probability that underflowed to 0 at the end of the order.
        values = np.log(np.maximum(values, np.finfo(np.float32).tiny))
    centred: np.ndarray[Any, Any] = values - values.mean(axis=1, keepdims=True)
    return centred


def is_softmax(values: np.ndarray[Any, Any]) -> bool:
    """Whether every row of ``(N, classes)`` values is a probability distribution, within float16's rounding."""
    return bool((values >= 0).all() and (abs(values.sum(axis=1) - 1) < 5e-3).all())
