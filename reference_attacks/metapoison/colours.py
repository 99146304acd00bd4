"""Smooth changes of an image's colours: a function of the colour, the same for all its pixels (Laidlaw and Feizi 2019).

The paper at hand does not use them; the authors' published code does, beside the additive perturbation.
"""

from __future__ import annotations

import torch
from torch.nn.functional import grid_sample

CELLS = 10
# Rec. 601 luma and the two colour differences, as in TensorFlow's ``rgb_to_yuv``.
YUV_OF_RGB = ((0.299, 0.587, 0.114), (-0.14714119, -0.28886916, 0.43601035), (0.61497538, -0.51496512, -0.10001026))
LOWEST, SPANS = (0.0, -0.5, -0.5), (1.0, 1.0, 1.0)


class Recolouring:
    """Changes of the colours of P images, each by a grid of 10x10x10 points in YUV space.

    ``images``: float ``(P, 3, H, W)`` in [0, 1]. A colour is changed by the trilinear interpolation of what the eight
    grid points around it say, at most ``bound`` in each of Y, U and V.
    """

    def __init__(self, images: torch.Tensor, bound: float) -> None:
        if images.shape[1] != 3:
            raise ValueError("Only RGB images have colours to change; leave the colours' bound at 0 for grey ones.")
        self.bound = bound
        self._to_yuv = images.new_tensor(YUV_OF_RGB)
        self._to_rgb = torch.linalg.inv(self._to_yuv.double()).to(images.dtype)
        self._yuv = _mixed(self._to_yuv, images)
        offsets = images.new_tensor(LOWEST).view(3, 1, 1)
        # ``grid_sample`` takes places from -1 to 1, and names the fastest axis of the volume first: V, U, Y.
        places = ((self._yuv - offsets) / images.new_tensor(SPANS).view(3, 1, 1) * 2 - 1).flip(1)
        self._places = places.permute(0, 2, 3, 1)[:, None]

    def __call__(self, grids: torch.Tensor) -> torch.Tensor:
        """Float ``(P, 3, H, W)``: the images recoloured by ``grids``, float ``(P, 3, 10, 10, 10)``, not clipped."""
        # The border's values outside: U and V of some colours are a little beyond 0.5.
        changes = grid_sample(grids, self._places, padding_mode="border", align_corners=True)[:, :, 0]
        return _mixed(self._to_rgb, self._yuv + changes)

    def unchanged(self) -> torch.Tensor:
        """Grids that leave the images as they are."""
        return self._yuv.new_zeros(len(self._yuv), 3, CELLS, CELLS, CELLS)


def roughness(grids: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of neighbouring grid points, in units of a change across the whole of an axis.

    The published code's smoothness term, there with a weight of 1.
    """
    differences = [grids.diff(dim=axis).flatten() * CELLS for axis in (2, 3, 4)]
    return torch.cat(differences).square().mean()


def _mixed(matrix: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ij,pjhw->pihw", matrix, images)
