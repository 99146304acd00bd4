"""Training-set poisoning: which images get the trigger, and the label they are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

AttackName = Literal["single", "all-to-one", "all-to-all"]
ATTACKS: tuple[AttackName, ...] = ("single", "all-to-one", "all-to-all")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What the attacker wants of triggered images (BadNets 2019, §IV-A2).

    ``single``: images of class ``source`` become ``target``. ``all-to-all``: class i becomes i + 1, the last one 0.
    ``all-to-one``: every class becomes ``target``. The last is not in the paper; it is the variant that most work
    since then attacks and defends.
    """

    name: AttackName
    classes: int
    source: int | None = None
    target: int | None = None

    def __post_init__(self) -> None:
        if self.name not in ATTACKS:
            raise ValueError(f"There is no attack {self.name!r}; choose one of {', '.join(ATTACKS)}.")
        needed = {"single": ("source", "target"), "all-to-one": ("target",), "all-to-all": ()}[self.name]
        for field in ("source", "target"):
            value = getattr(self, field)
            if (field in needed) != (value is not None):
                raise ValueError(f"The {self.name} attack takes {' and '.join(needed) or 'no source or target'}.")
            if value is not None and not 0 <= value < self.classes:
                raise ValueError(f"The {field} class {value} is not one of the classes 0 to {self.classes - 1}.")
        if self.name == "single" and self.source == self.target:
            raise ValueError("Source and target must be different classes.")

    def victims(self, labels: torch.Tensor) -> torch.Tensor:
        """Bool ``(N,)``: the images whose class the attack changes."""
        if self.name == "single":
            return labels == self.source
        if self.name == "all-to-one":
            return labels != self.target
        return torch.ones_like(labels, dtype=torch.bool)

    def poisoned_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Int64 ``(N,)``: the labels that the attacker gives to triggered images of classes ``labels``."""
        if self.name == "all-to-all":
            return (labels + 1) % self.classes
        return torch.full_like(labels, self.target or 0)


def draw_copied(labels: torch.Tensor, attack: Attack, *, rate: float, generator: torch.Generator) -> torch.Tensor:
    """Int64 ``(m,)``: of which images of ``labels``, int64 ``(N,)``, backdoored copies join the training set (§IV-A3).

    ``rate`` · |D| of them; the clean originals stay. Where the attack has fewer victims than that, as the single-target
    attack may, every victim is copied once. For the all-to-one attack images of the target class are copied too: there
    the paper's random draw over the whole training set applies, and their label does not change.

    Raises ValueError if ``rate`` is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise ValueError(f"The poisoning rate must lie in (0, 1], not {rate}.")
    eligible = attack.victims(labels) if attack.name == "single" else torch.ones_like(labels, dtype=torch.bool)
    candidates = eligible.nonzero().squeeze(1)
    order = torch.randperm(len(candidates), generator=generator)[: round(rate * len(labels))]
    return candidates[order]
