"""What a poisoner knows and wants: a training set, the images in it that are his, and targets with wanted labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..data import ImageSet


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One task of the poisoner (Huang et al. 2020, §2.1).

    ``clean``: the training set, N images, uint8. ``poisons``: int64 ``(P,)``, which of them he perturbs; their labels
    stay. ``targets``: uint8 ``(T, C, H, W)``, unseen images, the paper's x_t. ``true_labels``: int64 ``(T,)``.
    ``labels``: int64 ``(T,)``, what he wants each target to be taken for, the paper's y_adv. ``classes``: of the task.

    Raises ValueError where these do not fit together.
    """

    clean: ImageSet
    poisons: torch.Tensor
    targets: torch.Tensor
    true_labels: torch.Tensor
    labels: torch.Tensor
    classes: int

    def __post_init__(self) -> None:
        if self.clean.images.dtype != torch.uint8 or self.targets.dtype != torch.uint8:
            raise ValueError("Training images and targets are uint8.")
        if self.targets.dim() != 4 or self.targets.shape[1:] != self.clean.images.shape[1:]:
            raise ValueError(
                f"Targets have shape {tuple(self.targets.shape)} and training images {tuple(self.clean.images.shape)}; "
                "give (T, C, H, W) with the channels and the size of the training images."
            )
        if not len(self.targets) == len(self.true_labels) == len(self.labels) > 0:
            raise ValueError("Give at least one target, with one true and one wanted label for each.")
        if not len(self.poisons) or len(self.poisons.unique()) < len(self.poisons):
            raise ValueError("Give at least one training image to perturb, and none of them twice.")
        if not 0 <= int(self.poisons.min()) <= int(self.poisons.max()) < len(self.clean):
            raise ValueError(f"Poisons are numbers of training images, from 0 to {len(self.clean) - 1}.")
        for labels in (self.clean.labels, self.true_labels, self.labels):
            if not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
                raise ValueError(f"There are {self.classes} classes, so labels are from 0 to {self.classes - 1}.")

    @property
    def bases(self) -> torch.Tensor:
        """Uint8 ``(P, C, H, W)``: the images to perturb as they are."""
        return self.clean.images[self.poisons]

    def poisoned(self, images: torch.Tensor) -> ImageSet:
        """The training set with ``images``, uint8 ``(P, C, H, W)``, in place of the bases; their labels stay.

        Raises ValueError for images of another shape or type.
        """
        if images.dtype != torch.uint8 or images.shape != self.bases.shape:
            raise ValueError(f"Poisons are uint8 images of shape {tuple(self.bases.shape)}.")
        everything = self.clean.images.clone()
        everything[self.poisons] = images
        return ImageSet(images=everything, labels=self.clean.labels)
