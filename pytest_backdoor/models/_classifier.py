"""The one interface through which checks look at a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ..errors import ModelError
from ..settings import ScanSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ._preprocessing import Preprocessing

BATCH = 64
SOFTMAX_TOLERANCE = 5e-3


@runtime_checkable
class Classifier(Protocol):
    """An image classifier.

    ``input_shape`` is (channels, height, width), ``classes`` the number of outputs. ``thread_safe``: whether several
    threads may call what ``differentiable`` gives at once.
    """

    input_shape: tuple[int, int, int]
    classes: int
    thread_safe: bool

    def logits(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Float32 ``(N, classes)`` for float32 ``(N, C, H, W)`` images in [0, 1].

        Each row is shifted to mean zero. Logits, log-softmax and softmax outputs of one network so give the same
        values up to rounding, since they differ by a constant in each row. Raises ModelError if an output is not
        finite.
        """
        ...

    def features(self, images: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """What the last linear layer takes, float32 ``(N, D)``, and ``logits``, of the same images in one run.

        Raises ModelError as ``logits`` does, and NotAssessableError for a model that does not end with one such layer.
        """
        ...

    def differentiable(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """The same function in torch: float ``(N, C, H, W)`` images in [0, 1] to logits, with gradients.

        Raises NotDifferentiableError if that cannot be had for this model.
        """
        ...


class OpenedModel(Classifier, Protocol):
    """A classifier whose preprocessing can be exchanged.

    ``preprocessing``: what images in [0, 1] become. ``range_in_graph``: whether its range was read from the model's
    first operators. ``layout_open``: whether the model's input fits either layout.
    """

    preprocessing: Preprocessing
    range_in_graph: bool
    layout_open: bool

    def with_preprocessing(self, preprocessing: Preprocessing) -> Self:
        """The same opened model, with nothing loaded again, behind another preprocessing."""
        ...


def as_logits(outputs: np.ndarray[Any, Any], *, softmax: bool, path: str) -> np.ndarray[Any, Any]:
    """Centred float32 logits of raw ``(N, classes)`` outputs.

    ``softmax``: the outputs are probabilities, not logits or their logarithms. Raises ModelError if a value is not
    finite, or if the outputs of a model that gave probabilities before are none.
    """
    import numpy as np

    values = outputs
    if outputs.dtype != np.float32:
        with np.errstate(over="ignore"):  # infinity is what the next line is about
            values = outputs.astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelError(
            f"{path} gives outputs that are not finite numbers (NaN or infinity), so nothing can be said about it; "
            "check its weights, and the declared input_range, mean and std."
        )
    if softmax:
        if not is_softmax(values, tolerance=10 * SOFTMAX_TOLERANCE):
            raise ModelError(
                f"{path} gives probabilities for some images and other numbers for others, so its outputs cannot be "
                "compared; export the model with its logits as the output."
            )
        values = np.log(np.maximum(values, smallest_probability(str(outputs.dtype))))
    # What mean() does, without the part of it that is Python: this is on the path of every litmus check.
    means = np.add.reduce(values, axis=1, keepdims=True) / np.float32(values.shape[1])
    centred: np.ndarray[Any, Any] = values - means
    return centred


def smallest_probability(dtype: str) -> float:
    """What stands for a probability that underflowed to 0, so that it has a logarithm and stays the smallest."""
    return 2.0**-24 if dtype == "float16" else 2.0**-126


def is_softmax(values: np.ndarray[Any, Any], tolerance: float = SOFTMAX_TOLERANCE) -> bool:
    """Whether every row of ``(N, classes)`` values is a probability distribution, within float16's rounding.

    Logits can look like one for a single image. A model is therefore judged once, by its outputs for ``probe_images``.
    """
    return bool((values >= 0).all() and (abs(values.astype("float32").sum(axis=1) - 1) < tolerance).all())


def probe_images(input_shape: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Four float32 images, from black to full noise, that no model answers alike unless its outputs are constant."""
    import numpy as np

    noise = np.random.default_rng(0).random((4, *input_shape), dtype=np.float32)
    return noise * np.linspace(0, 1, 4, dtype=np.float32)[:, None, None, None]


def class_scores(outputs: Any, images: int) -> Any:
    """``(N, classes)`` of a model's raw output for N ``images``, an array or a tensor; None if it holds no such scores.

    Convolutional heads leave two dimensions of size 1 behind, which are taken away.
    """
    shape = tuple(getattr(outputs, "shape", ()))
    if shape[2:] == (1, 1):
        outputs, shape = outputs.reshape(shape[:2]), shape[:2]
    return outputs if len(shape) == 2 and shape[0] == images and shape[1] >= 2 else None


def as_features(values: np.ndarray[Any, Any], images: int, display: str) -> np.ndarray[Any, Any]:
    """Float32 ``(images, D)`` of what a last layer took. Raises ModelError if it has other rows or is not finite."""
    import numpy as np

    if values.ndim < 2 or len(values) != images:
        raise ModelError(f"{display} gives features of shape {list(values.shape)} for {images} image(s).")
    features = np.ascontiguousarray(values.reshape(images, -1), np.float32)
    if not np.isfinite(features).all():
        raise ModelError(
            f"The features of {display} are not finite numbers (NaN or infinity); check its weights, and the declared "
            "input_range, mean and std."
        )
    return features


def require_class_names(settings: ScanSettings, classes: int, display: str) -> None:
    """Raise ModelError if the ``classes`` setting does not name each of the model's outputs."""
    if settings.classes and len(settings.classes) != classes:
        raise ModelError(
            f"{display} has {classes} outputs, but the classes setting names {len(settings.classes)}; "
            "list one name for each output."
        )


def one_line(error: BaseException, limit: int = 450) -> str:
    """The text of another library's error as the end of a sentence: its type if it has none, never several lines."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= limit else f"{text[:limit]} …"
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
