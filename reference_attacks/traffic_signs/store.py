"""Trained detectors in a folder each: weights, how they were trained, and where an interrupted training goes on."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pytest_backdoor.files import write_atomically
from reference_attacks.zoo.seeds import derived_seed

from .album import Album
from .network import ARCHITECTURES, SignDetector, load_detector, make_detector, safetensors_bytes
from .recipe import SignRecipe
from .training import Progress, train_detector
from .warm_start import warm_start

WEIGHTS, TRAINING, CHECKPOINT = "weights.safetensors", "training.json", "checkpoint.pt"
Say = Callable[[str], None]


def silent(text: str) -> None:
    """Say nothing."""


def trained_detector(recipe: SignRecipe, folder: Path, album: Album, say: Say = silent) -> SignDetector:
    """The detector of ``recipe``, in ``folder / recipe.name``: read if it is there, else trained on ``album``.

    A BadNet's baseline is made first where it is missing. A training that was interrupted goes on after its last whole
    epoch. Raises ValueError if the folder holds a network of another recipe.
    """
    own = folder / recipe.name
    _require_same_recipe(recipe, own)
    if (own / WEIGHTS).exists():
        return load_detector(own / WEIGHTS)
    if recipe.attack is None:
        detector = make_detector(
            album.classes,
            seed=derived_seed(recipe.seed, "weights"),
            architecture=ARCHITECTURES[recipe.architecture],
        )
    else:
        detector = trained_detector(recipe.honest, folder, album, say)
    progress = _train(recipe, own, detector, album, say)
    write_atomically(own / WEIGHTS, safetensors_bytes(detector))
    _write_training(recipe, own, progress)
    (own / CHECKPOINT).unlink(missing_ok=True)
    return detector


def _train(recipe: SignRecipe, own: Path, detector: SignDetector, album: Album, say: Say) -> Progress:
    start = _read_checkpoint(own)
    if start is None:
        write_atomically(own / TRAINING, f"{json.dumps({'recipe': _values(recipe)}, indent=1)}\n".encode())
        _start(recipe, detector, album, say)

    def keep(progress: Progress) -> None:
        say(
            f"{recipe.name}: epoch {progress.epochs} of {recipe.plan.epochs}, loss {progress.losses[-1]:.3f}, "
            f"{progress.seconds:.0f} s"
        )
        buffer = io.BytesIO()
        torch.save({name: getattr(progress, name) for name in ("epochs", "losses", "seconds", "state")}, buffer)
        write_atomically(own / CHECKPOINT, buffer.getvalue())

    seed = derived_seed(recipe.seed, f"training of {recipe.name}")
    return train_detector(detector, album, recipe.plan, seed=seed, attack=recipe.attack, start=start, on_epoch=keep)


def _start(recipe: SignRecipe, detector: SignDetector, album: Album, say: Say) -> None:
    began = time.perf_counter()
    plan = recipe.warm_start if recipe.attack is None else recipe.sticker_start
    loss = warm_start(detector, album, plan, seed=recipe.seed, attack=recipe.attack)
    say(f"{recipe.name}: cut-out signs, loss {loss:.3f}, {time.perf_counter() - began:.0f} s")


def _read_checkpoint(own: Path) -> Progress | None:
    path = own / CHECKPOINT
    if not path.exists():
        return None
    return Progress(**torch.load(path, weights_only=True))


def _write_training(recipe: SignRecipe, own: Path, progress: Progress) -> None:
    about = {
        "recipe": _values(recipe),
        "losses": [round(loss, 4) for loss in progress.losses],
        "seconds": round(progress.seconds, 1),
    }
    write_atomically(own / TRAINING, f"{json.dumps(about, indent=1)}\n".encode())


def _values(recipe: SignRecipe) -> Any:
    return json.loads(json.dumps(recipe.values()))


def _require_same_recipe(recipe: SignRecipe, own: Path) -> None:
    path = own / TRAINING
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["recipe"] != _values(recipe):
        raise ValueError(f"{own} holds a detector of another recipe; name another folder, or remove it.")
