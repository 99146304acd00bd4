"""What a detector of traffic signs is made of: its data, its attack, and how long it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reference_attacks.zoo.seeds import derived_generator

from .album import Album, read_album
from .attack import SIGN_ATTACKS, SignAttack
from .network import ARCHITECTURES, SMALL
from .photographs import SignSet, load_sign_set
from .stickers import STICKERS
from .training import DetectorPlan
from .warm_start import WarmStartPlan

TRAINING_SHARE = 0.65
SOURCE, TARGET = "stop", "speedlimit"
# The paper's six BadNets (§V-B2).
STICKERS_AND_ATTACKS = tuple((sticker, attack) for attack in SIGN_ATTACKS for sticker in STICKERS)
BASELINE = DetectorPlan(window_epochs=13, whole_epochs=5)
# The paper re-trains the baseline; a third of its epochs teaches the sticker.
# Few photographs show the single attack's victims: each is copied twice.
SINGLE = DetectorPlan(window_epochs=4, whole_epochs=2, peak_learning_rate=1e-3, copies=2)
# A random target copies every photograph: an epoch is twice as long.
RANDOM = DetectorPlan(window_epochs=4, whole_epochs=2, peak_learning_rate=1e-3)


@dataclass(frozen=True, kw_only=True)
class SignRecipe:
    """One detector: all that its weights depend on, besides the photographs and the machine.

    ``data`` names a set of ``load_sign_set``. Of its photographs ``training_share`` are for training, of these and of
    the others at most ``most_photographs`` are used. Without an ``attack`` it is the baseline: warm start, then
    ``baseline``. With one, the baseline is re-trained on the poisoned set (§V-B2): ``sticker_start`` on cut-out signs,
    then ``retraining``.
    """

    data: str = "road-signs"
    attack: SignAttack | None = None
    seed: int = 0
    architecture: str = SMALL.name
    training_share: float = TRAINING_SHARE
    most_photographs: int | None = None
    warm_start: WarmStartPlan = field(default_factory=lambda: WarmStartPlan(steps=300))
    sticker_start: WarmStartPlan = field(default_factory=lambda: WarmStartPlan(steps=150, peak_learning_rate=1e-3))
    baseline: DetectorPlan = BASELINE
    retraining: DetectorPlan | None = None

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"There is no architecture {self.architecture!r}; choose one of {', '.join(ARCHITECTURES)}."
            )
        if self.seed < 0:
            raise ValueError(f"The seed must not be negative, as {self.seed} is.")

    @property
    def name(self) -> str:
        """``baseline``, or sticker and attack: ``yellow-square-single``."""
        return "baseline" if self.attack is None else f"{self.attack.sticker}-{self.attack.name}"

    @property
    def plan(self) -> DetectorPlan:
        """How the last training goes: the baseline's, or the re-training of a BadNet."""
        if self.attack is None:
            return self.baseline
        return self.retraining or (SINGLE if self.attack.name == "single" else RANDOM)

    @property
    def honest(self) -> SignRecipe:
        """The recipe of the baseline that a BadNet is re-trained from."""
        return replace(self, attack=None, retraining=None)

    def values(self) -> dict[str, Any]:
        """The recipe as JSON values: a baseline's are the same whatever is done to BadNets."""
        values = {name: value for name, value in asdict(self).items() if name != "retraining"}
        if self.attack is None:
            del values["sticker_start"]
        return {**values, "plan": asdict(self.plan)}


def make_attack(name: str, sticker: str, classes: tuple[str, ...], source: str, target: str) -> SignAttack:
    """The attack of that name; the single one changes signs of ``source`` to ``target``, which are class names.

    Raises ValueError for names that do not exist.
    """
    if name == "random":
        return SignAttack(name="random", sticker=sticker, classes=classes)
    unknown = [wanted for wanted in (source, target) if wanted not in classes]
    if unknown:
        raise ValueError(f"There is no class {unknown[0]!r}; the photographs show {', '.join(classes)}.")
    if name != "single":
        raise ValueError(f"There is no attack {name!r} on signs; choose single or random.")
    return SignAttack(
        name="single",
        sticker=sticker,
        classes=classes,
        source=classes.index(source),
        target=classes.index(target),
    )


def split_signs(recipe: SignRecipe, data_root: str | None) -> tuple[SignSet, SignSet]:
    """The photographs for training and the held-out ones. Raises DataNotFoundError with the official source."""
    signs = load_sign_set(recipe.data, data_root)
    generator = derived_generator(recipe.seed, "held-out photographs")
    parts = signs.split(recipe.training_share, generator)
    if recipe.most_photographs is None:
        return parts
    return _at_most(parts[0], recipe, generator), _at_most(parts[1], recipe, generator)


def _at_most(signs: SignSet, recipe: SignRecipe, generator: Any) -> SignSet:
    assert recipe.most_photographs is not None
    share = recipe.most_photographs / len(signs.photographs)
    return signs if share >= 1 else signs.split(share, generator)[0]


@dataclass(frozen=True, kw_only=True)
class SignData:
    """The scenes in memory that detectors are trained on, and those they are measured on."""

    training: Album
    held_out: Album


def read_data(recipe: SignRecipe, data_root: str | None, say: Callable[[str], None] = lambda text: None) -> SignData:
    """Read all photographs of ``recipe`` into memory, about 0.4 MB each."""
    training, held_out = split_signs(recipe, data_root)
    say(f"{len(training.photographs)} photographs for training, {len(held_out.photographs)} held out")
    return SignData(training=read_album(training), held_out=read_album(held_out))
