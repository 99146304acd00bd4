"""What each network of a zoo is, derived from the zoo's seed and the network's index alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..triggers import Trigger, random_binary_patches

Split = Literal["fit", "calibration", "test"]
TRIGGERS = 20
TRIGGER_SIZE = 5
STEPS = (700, 900, 1200)


@dataclass(frozen=True, kw_only=True)
class ZooPlan:
    """How many networks a zoo holds and how they differ.

    The poisoned ones follow the threat model of Universal Litmus Patterns, §3.1 and §4.1: one source and one target
    class, one of 20 random 5x5 patches in a corner drawn for each image. Triggers and source-target pairs of the
    networks that detectors are fitted on are disjoint from those of the test networks. Calibration networks are
    clean ones that no detector is fitted on. ``steps``: how long networks are trained; each draws one of them.
    """

    task: str = "mnist"
    seed: int = 0
    clean_fit: int
    clean_calibration: int
    clean_test: int
    poisoned_fit: int
    poisoned_test: int
    poison_ratio: float = 0.5
    steps: tuple[int, ...] = STEPS

    def members(self) -> list[Member]:
        """All members, clean and poisoned ones interleaved so that an unfinished zoo is still balanced."""
        groups: list[list[Member]] = []
        counts: list[tuple[Split, bool, int]] = [
            ("fit", False, self.clean_fit),
            ("calibration", False, self.clean_calibration),
            ("test", False, self.clean_test),
            ("fit", True, self.poisoned_fit),
            ("test", True, self.poisoned_test),
        ]
        for split, poisoned, count in counts:
            groups.append([self._member(split, poisoned, number) for number in range(count)])
        return _interleave(groups)

    def _member(self, split: Split, poisoned: bool, number: int) -> Member:
        name = f"{'poisoned' if poisoned else 'clean'}-{split}-{number:04d}"
        generator = torch.Generator().manual_seed(derived_seed(self.seed, name))
        steps = self.steps[int(torch.randint(len(self.steps), (1,), generator=generator))]
        source = target = trigger = None
        if poisoned:
            pairs = self.pairs(split)
            source, target = pairs[number % len(pairs)]
            numbers = trigger_numbers(split)
            trigger = numbers[int(torch.randint(len(numbers), (1,), generator=generator))]
        return Member(name=name, split=split, steps=steps, source=source, target=target, trigger=trigger)

    def pairs(self, split: Split, classes: int = 10) -> list[tuple[int, int]]:
        """The source-target pairs of one split: a random half of all for fitting, the other half for testing."""
        pairs = [(source, target) for source in range(classes) for target in range(classes) if source != target]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "pairs"))
        order = torch.randperm(len(pairs), generator=generator).tolist()
        half = len(pairs) // 2
        return [pairs[i] for i in (order[:half] if split == "fit" else order[half:])]

    def triggers(self, channels: int = 1) -> list[Trigger]:
        """All 20 triggers; ``trigger_numbers`` says which split uses which."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "triggers"))
        return random_binary_patches(TRIGGERS, TRIGGER_SIZE, channels, generator)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network of a zoo; ``source``, ``target`` and ``trigger`` are None for a clean one."""

    name: str
    split: Split
    steps: int
    source: int | None = None
    target: int | None = None
    trigger: int | None = None

    @property
    def poisoned(self) -> bool:
        """Whether the network has a backdoor."""
        return self.trigger is not None


def trigger_numbers(split: Split) -> list[int]:
    """The numbers of the triggers of one split: the first half for fitting, the second for testing."""
    return list(range(TRIGGERS // 2)) if split == "fit" else list(range(TRIGGERS // 2, TRIGGERS))


def derived_seed(seed: int, name: str) -> int:
    """A seed for one named purpose, independent of all others and of the order of work."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


def _interleave(groups: Sequence[list[Member]]) -> list[Member]:
    placed = [
        ((position + 0.5) / len(group), order, member)
        for order, group in enumerate(groups)
        for position, member in enumerate(group)
    ]
    return [member for _, _, member in sorted(placed, key=lambda entry: entry[:2])]
