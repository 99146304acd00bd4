"""InceptionV3 of torchvision as the feature extractor of the paper (Szegedy et al. 2016), for images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data import DataNotFoundError, ImageSet
from ..training import as_input

SIZE = 299
SOURCE = "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"


@dataclass(frozen=True, kw_only=True)
class Inception:
    """A frozen InceptionV3 in evaluation mode without its last layer."""

    network: nn.Module

    def prepared(self, images: ImageSet) -> ImageSet:
        """The images as they are: ``load_large`` reads them in the right size."""
        return images

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 ``(N, 3, 299, 299)`` in [0, 1] to float32 ``(N, 2048)``."""
        # The weights are Google's, made for pixels from -1 to 1.
        found: torch.Tensor = self.network(2 * images - 1)
        return found

    @torch.no_grad()
    def features_of(self, images: torch.Tensor, batch: int = 32) -> torch.Tensor:
        """Uint8 ``(N, 3, 299, 299)`` to float32 ``(N, 2048)``, in batches."""
        return torch.cat([self.features(as_input(some)) for some in images.split(batch)])


def load_inception(path: Path) -> Inception:
    """InceptionV3 with the weights of ``path``. Raises OSError or ValueError with a sentence where they are no such."""
    from torchvision.models import inception_v3

    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; the weights of InceptionV3 are published at {SOURCE}.")
    network: Any = inception_v3(weights=None, aux_logits=True, transform_input=False, init_weights=False)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # Whatever torch raises for a file that is something else.
        raise ValueError(f"{path} does not hold torchvision's InceptionV3; its weights are at {SOURCE}.") from error
    network.fc = nn.Identity()
    return Inception(network=network.to(memory_format=torch.channels_last).eval().requires_grad_(False))


def load_large(folder: Path) -> ImageSet:
    """The images of ``folder/CLASS/*``, classes in alphabetical order, resized to 299x299 RGB.

    The paper perturbs images in their own size, before the network resizes them; β depends on the size, see
    ``CraftingPlan``. Raises DataNotFoundError if there are none.
    """
    from torchvision.datasets import ImageFolder

    try:
        dataset = ImageFolder(str(folder))
    except (OSError, RuntimeError) as error:
        raise DataNotFoundError(f"{folder} holds no images; give it one folder of images for each class.") from error
    images = [np.asarray(image.convert("RGB").resize((SIZE, SIZE))) for image, _ in dataset]
    return ImageSet(images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), labels=torch.tensor(dataset.targets))
