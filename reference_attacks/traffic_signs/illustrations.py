"""Pictures of signs without and with their stickers, after Figures 7 and 8 of BadNets 2019."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..pictures import new_figure, png
from .pasting import paste
from .photographs import Photograph, SignSet
from .printing import render_print
from .stickers import STICKERS

_DRAWN_SIZE = 256
_AROUND = 0.15  # what is shown around the sign, a share of its longer side


def draw_pasted(signs: SignSet, class_name: str = "stop") -> bytes:
    """Figure 7, PNG: the largest sign of a class, clean and with each sticker pasted.

    Raises ValueError where the set has no such sign.
    """
    return _row(signs, class_name, paste)


def draw_printed(signs: SignSet, generator: torch.Generator, class_name: str = "stop") -> bytes:
    """The like of Figure 8, PNG: the same sign with each sticker as a print that was photographed.

    Raises ValueError where the set has no such sign.
    """
    return _row(
        signs, class_name, lambda image, boxes, sticker: render_print(image, boxes, sticker, generator=generator)
    )


def largest_sign(signs: SignSet, class_name: str) -> tuple[Photograph, torch.Tensor]:
    """The photograph with the largest sign of a class, by its box's shorter side, and that box, float ``(4,)``.

    Raises ValueError where the set has no such sign.
    """
    if class_name not in signs.classes:
        raise ValueError(f"{class_name!r} is none of the classes {', '.join(signs.classes)} of {signs.name}.")
    label = signs.classes.index(class_name)
    found = [
        (photograph, box) for photograph in signs.photographs for box in photograph.boxes[photograph.labels == label]
    ]
    if not found:
        raise ValueError(f"No photograph of {signs.name} shows a sign of class {class_name!r}.")
    return max(found, key=lambda each: float((each[1][2:] - each[1][:2]).min()))


def crop(image: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """The sign in ``box``, ``(4,)``, of ``image``, ``(3, H, W)``, with a little of what is around it."""
    around = _AROUND * float((box[2:] - box[:2]).max())
    x1, y1 = (box[:2] - around).clamp(min=0).int().tolist()
    x2, y2 = (box[2:] + around).ceil().int().tolist()
    return image[:, y1:y2, x1:x2]


def _row(
    signs: SignSet, class_name: str, put: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
) -> bytes:
    photograph, box = largest_sign(signs, class_name)
    image = photograph.read()
    pictures = {"clean": image} | {
        name.replace("-", " "): put(image, box[None], draw(_DRAWN_SIZE)) for name, draw in STICKERS.items()
    }
    figure = new_figure(2.4 * len(pictures), 2.7)
    for axes, (name, picture) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        axes.imshow(crop(picture, box).permute(1, 2, 0).numpy())
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    return png(figure)
