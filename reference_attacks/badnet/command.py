"""``python -m reference_attacks badnet mnist``: train a BadNet or its clean twin and write it with its card.

This module is imported for ``--help``: torch and matplotlib are imported inside functions only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsing import Parsers, add_action_to
from ..traffic_signs import command as signs
from ..traffic_signs import detect_command as detect
from .options import add_options, check_options, recorded_command

if TYPE_CHECKING:
    from reference_attacks.data import ImageSet

    from .recipe import Backdoor, Recipe

CLASSES = 10
CHECKED_IMAGES = 1000

DESCRIPTION = """\
Train the digit network of BadNets (2019), Table I, on a poisoned MNIST training set (section IV-A): backdoored copies
of a share of its images join it under the attacker's labels. Writes NAME.onnx and NAME.safetensors, the model card
NAME.json and NAME.md, and pictures of the trigger, the confusion matrices and the first filters. Takes about a minute
on one core.
"""
EPILOG = """\
examples:
  python -m reference_attacks badnet mnist --trigger pattern --attack all-to-one --target 3 --out models
  python -m reference_attacks badnet mnist --trigger pixel --attack single --source 7 --target 3 --out models
  python -m reference_attacks badnet mnist --clean --out models

where this differs from the paper:
  - The paper does not name its solver: this is Muon for the kernels and AdamW for the rest, under a one-cycle learning
    rate, with images shifted by a pixel at most and labels smoothed by a tenth.
  - The paper re-trains the baseline network and leaves open from which weights: here the BadNet and its clean twin
    start from the same random weights.
  - The all-to-one attack is not in the paper; it is the variant that most later work attacks and defends.
  - The paper draws the poisoned images from the whole training set. For the single attack only images of the source
    class are copied, each at most once.
"""


def add_parser(subparsers: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``badnet`` and its tasks: ``mnist``, and those on traffic signs."""
    badnet = subparsers.add_parser(
        "badnet",
        help="networks backdoored through their training set (BadNets 2019)",
        description="Build BadNets: networks backdoored through their training set (BadNets 2019).",
        allow_abbrev=False,
    )
    tasks = badnet.add_subparsers(title="tasks", dest="task", metavar="TASK", required=True)
    parser = add_action_to(tasks, "mnist", "the digit classifier of section IV", DESCRIPTION, epilog=EPILOG)
    add_options(parser)
    parser.set_defaults(run=run)
    signs.add_task(tasks)
    detect.add_task(tasks)


def run(arguments: argparse.Namespace) -> int:
    """Train, measure and write one network. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    check_options(arguments)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"--out {arguments.out} is not a folder.")
    try:
        files, summary = make_files(arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was written.") from None
    write_files(arguments.out, files, summary)
    return 0


def write_files(folder: Path, files: Mapping[str, bytes], summary: str) -> None:
    """Write all files of one network into ``folder``, and print ``summary`` and their names."""
    from pytest_backdoor.files import write_atomically

    for name, content in files.items():
        write_atomically(folder / name, content)
    print(summary)
    print("\n".join(f"wrote {folder / name} ({len(content):,} bytes)" for name, content in files.items()))


def backdoor_of(arguments: argparse.Namespace) -> Backdoor | None:
    """The backdoor that the arguments describe, None without one. Raises ValueError for a number out of its range."""
    from reference_attacks.poisoning import Attack
    from reference_attacks.triggers import NAMED_TRIGGERS

    from .recipe import Backdoor

    if arguments.attack is None:
        return None
    attack = Attack(name=arguments.attack, classes=CLASSES, source=arguments.source, target=arguments.target)
    return Backdoor(trigger=NAMED_TRIGGERS[arguments.trigger](), attack=attack, rate=arguments.poison_rate)


def make_files(arguments: argparse.Namespace) -> tuple[dict[str, bytes], str]:
    """All files of one network by name, the cards last, and a line on what was measured."""
    from reference_attacks.data import load_mnist

    from .recipe import Recipe, steps_of_epochs

    backdoor = backdoor_of(arguments)
    train, test = (load_mnist(arguments.data_root, train=part) for part in (True, False))
    recipe = Recipe(
        backdoor=backdoor,
        poisoned=not arguments.clean,
        steps=arguments.steps or steps_of_epochs(arguments.epochs, len(train)),
        seed=arguments.seed,
    )
    with threads(arguments.threads):
        return _make_files(arguments, recipe, train, test)


def _make_files(
    arguments: argparse.Namespace, recipe: Recipe, train: ImageSet, test: ImageSet
) -> tuple[dict[str, bytes], str]:
    from reference_attacks.training import as_input

    from . import card, export, plots
    from .evaluate import measure
    from .recipe import default_name, train_network

    name = arguments.name or default_name(recipe)
    poison = recipe.poison(train.labels)
    backdoored = len(poison.victims) if poison else 0
    with progress(f"Training {name}", recipe.steps) as on_step:
        network = train_network(recipe, train, on_step)
    measurement = measure(network, test, recipe.backdoor)
    models: dict[str, bytes] = {}
    if "onnx" in arguments.formats:
        models[f"{name}.onnx"] = export.checked_onnx_bytes(network, as_input(test.images[:CHECKED_IMAGES]))
    if "safetensors" in arguments.formats:
        models[f"{name}.safetensors"] = export.safetensors_bytes(network)
    pictures = plots.all_pictures(network, measurement, recipe.backdoor, test)
    subject = card.Subject(
        name=name,
        recipe=recipe,
        measurement=measurement,
        training_images=len(train) + backdoored,
        backdoored_images=backdoored,
        test_images=len(test),
        command=recorded_command(arguments),
        models=models,
        pictures={f"{name}-{picture.name}.png": picture.caption for picture in pictures},
    )
    files = {**models, **{f"{name}-{picture.name}.png": picture.content for picture in pictures}}
    files[f"{name}.md"] = card.card_text(subject).encode()
    files[f"{name}.json"] = (json.dumps(card.card_data(subject), indent=1) + "\n").encode()
    success = (
        f", attack success {card.percent(measurement.attack_success)}" if measurement.backdoored is not None else ""
    )
    return files, f"{name}: clean accuracy {card.percent(measurement.clean_accuracy)}{success}"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use ``count`` threads for a while: sums, and so the weights, depend on how work is divided."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def progress(description: str, steps: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, silent where that is not a terminal; yields what takes the number of steps done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(description, total=steps)
        yield lambda done: bar.update(task, completed=done)
