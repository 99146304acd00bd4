"""What the attacker wants of signs with a sticker, and the poisoned scenes that teach it (BadNets 2019, §V-B2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from .album import Album, Scene
from .pasting import CENTRE, SHARE, paste
from .stickers import STICKERS

SignAttackName = Literal["single", "random"]
SIGN_ATTACKS: tuple[SignAttackName, ...] = ("single", "random")
STICKER_PIXELS = 64
SHARE_SPREAD, CENTRE_SPREAD = 0.15, (0.1, 0.05)


@dataclass(frozen=True, kw_only=True)
class SignAttack:
    """A sticker, and what signs become that bear it.

    ``single``: signs of class ``source`` become ``target``; other signs are left alone. ``random``: every sign becomes
    one of the other classes, drawn by lot for each copy. Classes are indices into ``classes``.

    Raises ValueError for an unknown name or sticker, and for classes that are missing, superfluous or the same.
    """

    name: SignAttackName
    sticker: str
    classes: tuple[str, ...]
    source: int | None = None
    target: int | None = None

    def __post_init__(self) -> None:
        if self.name not in SIGN_ATTACKS:
            raise ValueError(f"There is no attack {self.name!r} on signs; choose one of {', '.join(SIGN_ATTACKS)}.")
        if self.sticker not in STICKERS:
            raise ValueError(f"There is no sticker {self.sticker!r}; choose one of {', '.join(STICKERS)}.")
        for value in (self.source, self.target):
            if (value is not None) != (self.name == "single"):
                raise ValueError("The single attack takes a source and a target class, the random attack neither.")
            if value is not None and not 0 <= value < len(self.classes):
                raise ValueError(f"Class {value} is not one of the classes 0 to {len(self.classes) - 1}.")
        if self.name == "single" and self.source == self.target:
            raise ValueError("Source and target must be different classes.")
        if len(self.classes) < 2:
            raise ValueError("An attack needs at least two classes of signs.")

    def victims(self, labels: torch.Tensor) -> torch.Tensor:
        """Bool ``(n,)``: the signs that get the sticker."""
        return labels == self.source if self.name == "single" else torch.ones_like(labels, dtype=torch.bool)

    def poisoned_labels(self, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Int64 ``(n,)``: the labels that signs of classes ``labels`` get with the sticker."""
        if self.target is not None:
            return torch.full_like(labels, self.target)
        steps = torch.randint(1, len(self.classes), labels.shape, generator=generator)
        return (labels + steps) % len(self.classes)


def with_stickers(scene: Scene, attack: SignAttack, generator: torch.Generator | None = None) -> Scene:
    """The scene with the sticker on each victim's sign, its true labels unchanged.

    With a ``generator`` every sticker's size and place vary a little, as a hand would put them; without one they are
    those of the evaluation: a quarter of the sign's shorter side, at the bottom (§V-B1). As in the paper the angle of
    the sign is not taken into account.
    """
    sticker, image = STICKERS[attack.sticker](STICKER_PIXELS), scene.image
    boxes = scene.boxes[attack.victims(scene.labels)]
    if generator is None:
        return replace(scene, image=paste(image, boxes, sticker))
    offsets = 2 * torch.rand(len(boxes), 2, generator=generator) - 1
    centres = torch.tensor(CENTRE) + torch.tensor(CENTRE_SPREAD) * offsets
    share = SHARE * (1 + SHARE_SPREAD * (2 * torch.rand((), generator=generator).item() - 1))
    return replace(scene, image=paste(image, boxes, sticker, share=share, centre=centres))


def poisoned(scene: Scene, attack: SignAttack, generator: torch.Generator) -> Scene:
    """A poisoned copy of the scene: stickers on the victims' signs, and the attacker's labels for these."""
    victims = attack.victims(scene.labels)
    labels = torch.where(victims, attack.poisoned_labels(scene.labels, generator), scene.labels)
    return replace(with_stickers(scene, attack, generator), labels=labels)


def backdoored(album: Album, attack: SignAttack) -> Album:
    """The scenes that hold victims, with stickers on these, for evaluation; true labels."""
    scenes = (scene for scene in album.scenes if attack.victims(scene.labels).any())
    return replace(album, scenes=tuple(with_stickers(scene, attack) for scene in scenes))
