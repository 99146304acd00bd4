"""From images as the checks see them, float in [0, 1] and channels first, to what a model's input takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..settings import ChannelOrder, Layout, ScanSettings

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Channel order, scaling, normalisation, layout and element type of a model's input.

    The channels of an image x in [0, 1] are put into the model's order, then x becomes
    (low + x · (high - low) - mean) / std, then the layout and the element type follow. ``mean`` and ``std`` hold one
    number or one for each channel, in the model's order.
    """

    layout: Layout
    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: ChannelOrder = "RGB"
    dtype: str = "float32"

    @property
    def integer(self) -> bool:
        """Whether the model takes whole numbers, which cannot be normalised."""
        return not self.dtype.startswith("float")

    def for_numpy(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The model's input, C-contiguous, for float32 ``(N, C, H, W)`` images in [0, 1]."""
        import numpy as np

        values = images[:, ::-1] if self.channel_order == "BGR" else images
        values = self._scaled(values, lambda numbers: np.asarray(numbers, np.float32).reshape(1, -1, 1, 1))
        if self.layout == "NHWC":
            values = values.transpose(0, 2, 3, 1)
        if self.integer:
            values = np.rint(values)
        return np.ascontiguousarray(values, dtype=self.dtype)

    def for_torch(self, images: torch.Tensor) -> torch.Tensor:
        """The model's input for float ``(N, C, H, W)`` images in [0, 1]; differentiable.

        Integer inputs are rounded with a straight-through gradient and stay floating point.
        """
        import torch

        values: torch.Tensor = self._scaled(
            images.flip(1) if self.channel_order == "BGR" else images,
            lambda numbers: torch.tensor(numbers, dtype=images.dtype, device=images.device).view(1, -1, 1, 1),
        )
        if self.integer:
            values = values + (values.round() - values).detach()
        return values.permute(0, 2, 3, 1) if self.layout == "NHWC" else values

    def _scaled(self, images: Any, per_channel: Any) -> Any:
        values = images
        if (self.low, self.high) != (0.0, 1.0):
            values = values * (self.high - self.low) + self.low
        if any(self.mean):
            values = values - per_channel(self.mean)
        if any(part != 1 for part in self.std):
            values = values / per_channel(self.std)
        return values


def declares_range(settings: ScanSettings) -> bool:
    """Whether ``settings`` say anything about range or normalisation; what they leave out is then the default."""
    return any(numbers is not None for numbers in (settings.input_range, settings.mean, settings.std))


def make_preprocessing(
    settings: ScanSettings, *, layout: Layout, channels: int, dtype: str, path: str
) -> Preprocessing:
    """The preprocessing that ``settings`` ask for; raises ModelError where it does not fit the model."""
    integer = not dtype.startswith("float")
    low, high = settings.input_range or ((0.0, 255.0) if integer else (0.0, 1.0))
    if integer and not 0 <= low < high <= 255:
        raise ModelError(f"{path} takes {dtype} images, so input_range must lie within [0, 255]; correct or remove it.")
    for name, numbers in (("mean", settings.mean), ("std", settings.std)):
        if numbers is not None and len(numbers) not in (1, channels):
            raise ModelError(
                f"{path} takes images of {channels} channel(s), but {name} lists {len(numbers)} numbers; "
                f"give one number or {channels}."
            )
    if integer and (settings.mean or settings.std):
        raise ModelError(f"{path} takes {dtype} images, which cannot be normalised; remove mean and std.")
    if settings.channel_order == "BGR" and channels != 3:
        raise ModelError(
            f"{path} takes images of {channels} channel(s), which cannot be in the order BGR; remove channel_order."
        )
    return Preprocessing(
        layout=layout,
        low=low,
        high=high,
        mean=settings.mean or (0.0,),
        std=settings.std or (1.0,),
        channel_order=settings.channel_order or "RGB",
        dtype=dtype,
    )
