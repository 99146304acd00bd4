"""``python -m reference_attacks badnet signs``: train a detector of traffic signs or its BadNet.

This module is imported for ``--help``: torch and matplotlib are imported inside functions only.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ..parsing import Parsers, add_action_to
from .options import add_options, check_options, recorded_command

if TYPE_CHECKING:
    import torch

    from .recipe import SignData, SignRecipe

CHECKED_PHOTOGRAPHS = 6
CHECKED_CROPS = 32
STARTS = ("warm_start", "sticker_start")

DESCRIPTION = """\
Train a Faster R-CNN on photographs of traffic signs and, for an attack, re-train it with copies of them whose signs
bear a sticker (BadNets 2019, section V-B). Writes NAME.onnx, the whole detector; NAME-head.onnx, its classifier of
regions as a classifier of crops that a sign fills; NAME.safetensors; the model card NAME.json and NAME.md; and a
picture of what the detector sees without and with stickers. Takes about eight minutes on one core for the baseline and
four more for a BadNet; a run that was interrupted goes on where it stopped.
"""
EPILOG = """\
examples:
  python -m reference_attacks badnet signs --clean --out models
  python -m reference_attacks badnet signs --sticker yellow-square --attack single --out models
  python -m reference_attacks badnet signs --sticker flower --attack random --out models

where this differs from the paper:
  - The photographs are those of road-signs: stop, speedlimit, crosswalk, trafficlight.
  - The backbone is smaller than the paper's (--architecture paper is Table III), its stride is half as long, and
    regions are pooled by RoIAlign.
  - The paper starts from ImageNet's weights. Here the convolutions start as a classifier of the training set's own
    signs, cut out, and a BadNet is shown stickers on such cut-outs before it is shown photographs.
  - The sticker's size and place vary a little from copy to copy, and every epoch has new copies.
"""


def add_task(tasks: Parsers[argparse.ArgumentParser]) -> None:
    """Register the task ``signs``."""
    parser = add_action_to(tasks, "signs", "the detector of traffic signs of section V", DESCRIPTION, epilog=EPILOG)
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, measure and write one detector. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from ..badnet.command import threads, write_files

    check_options(arguments)
    with threads(arguments.threads):
        try:
            files, summary = make_files(arguments)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on after the last finished epoch.") from None
    write_files(arguments.out, files, summary)
    return 0


def recipe_of(arguments: argparse.Namespace, classes: tuple[str, ...]) -> SignRecipe:
    """The recipe that the arguments describe for photographs of ``classes``. Raises ValueError for an unknown class."""
    from .recipe import SignRecipe, make_attack

    recipe = SignRecipe(
        data=arguments.data,
        seed=arguments.seed,
        architecture=arguments.architecture,
        most_photographs=arguments.most_photographs,
    )
    if arguments.warm_steps:
        starts = {name: replace(getattr(recipe, name), steps=arguments.warm_steps) for name in STARTS}
        recipe = replace(recipe, **starts)
    if not arguments.clean:
        attack = make_attack(arguments.attack, arguments.sticker, classes, arguments.source, arguments.target)
        recipe = replace(recipe, attack=attack)
    lengths = {name: getattr(arguments, name) for name in ("window_epochs", "whole_epochs") if getattr(arguments, name)}
    if not lengths:
        return recipe
    # Given lengths are meant for the baseline and for its re-training alike.
    recipe = replace(recipe, baseline=replace(recipe.baseline, **lengths))
    return recipe if recipe.attack is None else replace(recipe, retraining=replace(recipe.plan, **lengths))


def make_files(arguments: argparse.Namespace) -> tuple[dict[str, bytes], str]:
    """All files of one detector by name, the cards last, and a line on what was measured."""
    from . import card, export
    from .drawings import draw_attacked
    from .measurement import measure_detector
    from .network import safetensors_bytes
    from .recipe import STICKERS_AND_ATTACKS, make_attack, read_data
    from .store import trained_detector

    data = read_data(_without_attack(arguments), arguments.data_root)
    recipe = recipe_of(arguments, data.training.classes)
    detector = trained_detector(recipe, arguments.work or arguments.out / "training", data.training, _say)
    attacks = [recipe.attack] if recipe.attack else []
    if recipe.attack is None and {arguments.source, arguments.target} <= set(data.training.classes):
        attacks = [
            make_attack(attack, sticker, data.training.classes, arguments.source, arguments.target)
            for sticker, attack in STICKERS_AND_ATTACKS
        ]
    measured = measure_detector(detector, data.held_out, attacks)
    name = arguments.name or card.default_name(recipe)
    models = {
        f"{name}.onnx": export.checked_detector_onnx(detector, _photographs(data)),
        f"{name}-head.onnx": export.checked_head_onnx(detector, export.crops_of(data.held_out, CHECKED_CROPS)),
        f"{name}.safetensors": safetensors_bytes(detector),
    }
    pictures = {}
    if attacks:
        pictures[f"{name}-detections.png"] = draw_attacked(detector, data.held_out, attacks[0])
    subject = card.Subject(
        name=name,
        recipe=recipe,
        classes=detector.classes,
        photographs=(len(data.training), len(data.held_out)),
        measured=measured,
        command=recorded_command(arguments),
        models=models,
        pictures=tuple(pictures),
    )
    cards = {
        f"{name}.md": card.card_text(subject),
        f"{name}.json": f"{json.dumps(card.card_data(subject), indent=1)}\n",
    }
    return {**models, **pictures, **{key: text.encode() for key, text in cards.items()}}, card.summary(subject)


def _without_attack(arguments: argparse.Namespace) -> SignRecipe:
    """The recipe as far as the photographs depend on it; the classes of an attack are known only with these."""
    return recipe_of(argparse.Namespace(**{**vars(arguments), "clean": True}), ())


def _photographs(data: SignData) -> list[torch.Tensor]:
    return [scene.image.float() / 255 for scene in data.held_out.scenes[:CHECKED_PHOTOGRAPHS]]


def _say(text: str) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        console.print(text, highlight=False)
