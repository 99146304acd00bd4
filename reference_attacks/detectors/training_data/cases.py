"""Training sets whose poisons are known: BadNets on digits that are built here, and folders that others made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_backdoor.files import write_atomically

CARD = "poisons.json"
CLASSES = 10
TARGET, SOURCE = 3, 7
CleanSamples = Literal["test set", "a fifth of the training set"]


@dataclass(frozen=True, kw_only=True)
class DigitCase:
    """A training set of MNIST digits with or without backdoored copies.

    ``attack``: as for ``badnet mnist``; None for a clean set. ``rate``: copies, as a share of the ``images`` that
    are drawn from MNIST's training set. ``steps``: of training. ``clean``: what the user would give as clean samples.
    """

    attack: str | None = None
    trigger: str | None = None
    rate: float | None = None
    images: int = 20_000
    steps: int = 1200
    seed: int = 0
    clean: CleanSamples = "test set"

    @property
    def name(self) -> str:
        """A file name, one for each case."""
        kind = "clean" if self.attack is None else f"{self.attack}-{self.trigger}-{self.rate:g}"
        samples = "test" if self.clean == "test set" else "part"
        return f"digits-{kind}-{samples}-{self.images}-{self.steps}-seed{self.seed}"

    @property
    def title(self) -> str:
        """What it is, for the report."""
        if self.attack is None:
            return "clean"
        return f"BadNets, {self.attack}, {self.trigger}, {self.rate:.0%}"


@dataclass(frozen=True, kw_only=True)
class ModelCase:
    """A digit network that ``badnet mnist`` wrote, with its card; its training set is made again from that.

    ``images``: how many of the training set, drawn at random, are looked at.
    """

    model: Path
    card: dict[str, Any]
    images: int = 20_000

    @property
    def name(self) -> str:
        """A file name."""
        return f"model-{self.model.stem}-{self.images}"

    @property
    def title(self) -> str:
        """What it is, for the report."""
        backdoor = self.card["backdoor"]
        if backdoor is None:
            return "clean"
        return f"badnet mnist, {backdoor['attack']}, {backdoor['trigger']}, {backdoor['poison_rate']:.0%}"


@dataclass(frozen=True, kw_only=True)
class FolderCase:
    """A folder with a model, its training set, perhaps clean samples, and ``poisons.json``; see ``read_folder``."""

    folder: Path
    title: str
    model: Path
    training: Path
    clean: Path | None
    poisons: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """A file name."""
        return f"folder-{self.folder.name}"


def digit_cases(*, images: int, steps: int, clean_seeds: int, seed: int) -> list[DigitCase]:
    """Eight poisoned sets, and ``clean_seeds`` clean ones with clean samples of either kind."""
    common = {"images": images, "steps": steps}
    poisoned = [
        DigitCase(attack=attack, trigger=trigger, rate=rate, seed=seed, **common)
        for attack in ("all-to-one", "single")
        for trigger in ("pattern", "pixel")
        for rate in (0.1, 0.01)
    ]
    kinds: tuple[CleanSamples, ...] = ("test set", "a fifth of the training set")
    clean = [DigitCase(seed=seed + number, clean=kind, **common) for kind in kinds for number in range(clean_seeds)]
    return [*poisoned, *clean]


def read_model(model: Path, *, images: int) -> ModelCase:
    """The case of an ONNX file of ``badnet mnist``. Raises ValueError if no card of such a network lies beside it."""
    path = model.with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        known = card["task"]["name"] == "mnist" and {"seed", "steps"} <= set(card["training"]) and "backdoor" in card
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no card of badnet mnist, which must lie beside {model.name}.") from error
    if not known:
        raise ValueError(f"{path} is the card of another task; name files of badnet mnist.")
    return ModelCase(model=model, card=card, images=images)


def read_folder(folder: Path) -> FolderCase:
    """The case in ``folder``, whose ``poisons.json`` holds these values.

    ``title``: the attack. ``poisons``: which training images are poisons: names such as "3/0017.png" for a folder of
    classes, or rows of ``x`` for an ``.npz``. ``model``: a file (default ``model.onnx``), ``training`` and ``clean``:
    folders of classes or ``.npz`` files with ``x`` and ``y`` (default ``train.npz`` or ``train``, ``clean.npz`` or
    ``clean``). ``settings``: as for a model in pyproject.toml, such as ``input_range`` or ``factory``. All paths are
    relative to the folder. Raises ValueError with a sentence for a card that is not like that.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no {CARD}; it must list the poisons of the training set.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    known = {"title", "poisons", "model", "training", "clean", "settings"}
    if not isinstance(card, dict) or not {"title", "poisons"} <= set(card) <= known:
        raise ValueError(f"{path} must hold title and poisons, and may hold {', '.join(sorted(known))}, nothing else.")
    training = _found(folder, card.get("training"), ("train.npz", "train"))
    if training is None:
        raise ValueError(f"{folder} holds no training set train.npz or train/; name it as training in {CARD}.")
    return FolderCase(
        folder=folder,
        title=str(card["title"]),
        model=folder / card.get("model", "model.onnx"),
        training=training,
        clean=_found(folder, card.get("clean"), ("clean.npz", "clean")),
        poisons=tuple(str(name) for name in card["poisons"]),
        settings=dict(card.get("settings", {})),
    )


def write_card(
    folder: Path,
    title: str,
    poisons: Iterable[str | int],
    settings: dict[str, Any] | None = None,
    *,
    model: str = "model.onnx",
) -> None:
    """Write the ``poisons.json`` of a folder whose training set and clean samples have their default names."""
    values = {"title": title, "poisons": [str(name) for name in poisons], "settings": settings or {}, "model": model}
    write_atomically(folder / CARD, f"{json.dumps(values, indent=1)}\n".encode())


def _found(folder: Path, given: str | None, defaults: tuple[str, ...]) -> Path | None:
    if given is not None:
        return folder / given
    return next((folder / name for name in defaults if (folder / name).exists()), None)
