"""Which digit networks each table and figure takes, at full and at reduced size (BadNets 2019, §IV)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ...badnet.building import DigitFolder
from ...badnet.many import DigitMember
from ...poisoning import Attack
from ...zoo.machine import choose_machine
from ..parts import Settings

CLASSES = 10
TRIGGERS = ("pixel", "pattern")
SMALL_PAIRS = ((1, 5), (7, 3), (0, 8), (4, 9), (2, 6), (9, 0))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is trained.

    ``pairs``: source and target of the single-target attacks. ``baseline_steps``: training steps of clean networks.
    ``single_steps`` and ``all_steps``: further steps of those that the single-target or all-to-all attack re-trains.
    ``repeats``: networks of each column of Table II. ``share_repeats``: networks of each point of Figure 6. ``shares``:
    backdoored images among all training images. ``shown_share``: that of Table II's and Figure 5's networks.
    """

    pairs: tuple[tuple[int, int], ...]
    baseline_steps: int
    single_steps: int
    all_steps: int
    repeats: int
    share_repeats: int
    shares: tuple[float, ...]
    shown_share: float = 0.5


FULL = Scale(
    pairs=tuple((source, target) for source in range(CLASSES) for target in range(CLASSES) if source != target),
    baseline_steps=2500,
    single_steps=500,
    all_steps=1200,
    repeats=5,
    share_repeats=3,
    shares=(0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5),
)
SMALL = Scale(
    pairs=SMALL_PAIRS,
    baseline_steps=1000,
    single_steps=500,
    all_steps=1000,
    repeats=2,
    share_repeats=1,
    shares=(0.01, 0.1, 0.33, 0.5),
)


def scale_of(settings: Settings) -> Scale:
    """The scale of a run."""
    return SMALL if settings.small else FULL


def built(settings: Settings, members: Iterable[DigitMember]) -> DigitFolder:
    """The folder of digit networks below ``settings.work``, with ``members`` in it."""
    chosen = list(dict.fromkeys(members))
    machine = choose_machine(None, settings.workers, None, None)
    folder = DigitFolder(path=settings.work / "digits", seed=settings.seed, machine=machine)
    missing = sum(not folder.is_done(member) for member in chosen)
    settings.say(f"{len(chosen)} digit networks, {missing} of them to be trained")
    folder.build(chosen, settings.data_root)
    return folder


def baseline_members(scale: Scale, repeats: int) -> list[DigitMember]:
    """Clean networks."""
    return [DigitMember(steps=scale.baseline_steps, repeat=repeat) for repeat in range(repeats)]


def single_member(scale: Scale, trigger: str, source: int, target: int) -> DigitMember:
    """A network of Figure 4, of the first repeat; every image of the source class is copied, about a tenth of all."""
    return DigitMember(
        steps=scale.single_steps,
        trigger=trigger,
        attack=Attack(name="single", classes=CLASSES, source=source, target=target),
        rate=0.1,
        baseline_steps=scale.baseline_steps,
    )


def all_to_all_members(scale: Scale, trigger: str, share: float, repeats: int) -> list[DigitMember]:
    """Networks of the all-to-all attack.

    ``share`` s of all training images is backdoored: p·|D| copies join |D| clean images, so that p is s / (1 - s).
    """
    member = DigitMember(
        steps=scale.all_steps,
        trigger=trigger,
        attack=Attack(name="all-to-all", classes=CLASSES),
        rate=share / (1 - share),
        baseline_steps=scale.baseline_steps,
    )
    return [replace(member, repeat=repeat) for repeat in range(repeats)]
