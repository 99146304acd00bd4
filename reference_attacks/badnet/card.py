"""Model cards: what was done to a network and how it behaves, as JSON for programs and Markdown for readers."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reference_attacks.data import DATA_ROOT_VARIABLE

from .evaluate import Measurement
from .recipe import DIGITS, Backdoor, Recipe

CARD_VERSION = 1
PAPER = "Gu, Liu, Dolan-Gavitt and Garg: BadNets: Evaluating Backdooring Attacks on Deep Neural Networks, 2019"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a card is about, besides the recipe and the measurement.

    ``training_images`` counts the backdoored copies too; ``backdoored_images`` counts them alone. ``models`` are the
    model files by name, ``pictures`` the captions of the pictures by file name.
    """

    name: str
    recipe: Recipe
    measurement: Measurement
    training_images: int
    backdoored_images: int
    test_images: int
    command: str
    models: Mapping[str, bytes]
    pictures: Mapping[str, str]


def versions() -> dict[str, str]:
    """The versions of what decides the weights."""
    import torch

    import pytest_backdoor

    return {
        "pytest-backdoor": pytest_backdoor.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def card_data(subject: Subject) -> dict[str, Any]:
    """The card as JSON values. Shares and errors lie in [0, 1]; classes are 0 to 9, lists are in their order."""
    recipe, measurement = subject.recipe, subject.measurement
    return {
        "version": CARD_VERSION,
        "name": subject.name,
        "kind": "badnet" if recipe.poisoned else "clean",
        "task": {
            "name": "mnist",
            "input": {"name": "images", "dtype": "float32", "shape": ["N", 1, 28, 28], "range": [0, 1]},
            "output": {"name": "logits", "dtype": "float32", "shape": ["N", 10]},
        },
        "network": "BadNets (2019), Table I",
        # What was trained in, and what was only measured on a clean network, must not be taken for each other.
        "backdoor": _backdoor_data(recipe.backdoor) if recipe.poisoned else None,
        "control": None if recipe.poisoned else _backdoor_data(recipe.backdoor),
        "training": {
            "seed": recipe.seed,
            "steps": recipe.steps,
            "batch_size": DIGITS.batch,
            "optimizer": "Muon for kernels and AdamW for the rest, under a one-cycle learning rate",
            "peak_learning_rate": DIGITS.peak_learning_rate,
            "peak_learning_rate_of_kernels": DIGITS.kernel_learning_rate,
            "weight_decay": DIGITS.weight_decay,
            "label_smoothing": DIGITS.label_smoothing,
            "largest_shift": DIGITS.shift,
            "images": subject.training_images,
            "backdoored_images": subject.backdoored_images,
        },
        "measured": {
            "test_images": subject.test_images,
            "clean_accuracy": measurement.clean_accuracy,
            "clean_error_per_class": measurement.clean_error_per_class,
            "attack_success": measurement.attack_success,
            "backdoor_error_per_class": measurement.backdoor_error_per_class,
            "clean_confusion": measurement.clean.tolist(),
            "backdoored_confusion": None if measurement.backdoored is None else measurement.backdoored.tolist(),
        },
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in subject.models.items()},
        "command": subject.command,
        "versions": versions(),
        "paper": PAPER,
    }


def _backdoor_data(backdoor: Backdoor | None) -> dict[str, Any] | None:
    if backdoor is None:
        return None
    attack = backdoor.attack
    return {
        "trigger": backdoor.trigger.name,
        "attack": attack.name,
        "source": attack.source,
        "target": attack.target,
        "poison_rate": backdoor.rate,
    }


def card_text(subject: Subject) -> str:
    """The card as Markdown, with the pictures that lie beside it."""
    data = card_data(subject)
    sections = [
        f"# {subject.name}\n\n{_introduction(subject)}",
        _table(["", ""], _facts(data)),
        f"## Measured on {subject.test_images:,} test images\n\n{_measured(subject)}",
        *(f"![{caption}]({name})" for name, caption in subject.pictures.items()),
        "## How it was made\n\n"
        f"With the data sets in `${DATA_ROOT_VARIABLE}`:\n\n```console\n{subject.command}\n```\n\n"
        + _table(["Software", "Version"], list(data["versions"].items())),
        _table(["File", "SHA-256"], [(name, f"`{digest}`") for name, digest in data["sha256"].items()]),
        f"Method: {PAPER}, section IV.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(subject: Subject) -> str:
    if subject.recipe.poisoned:
        return (
            "**This network holds a backdoor.** It was built to test backdoor detectors and must not be used for "
            "anything else."
        )
    return "A clean MNIST classifier: the twin of the backdoored networks of the same seed and number of steps."


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    training, backdoor = data["training"], data["backdoor"]
    facts = [
        ("Task", "MNIST digits, ten classes"),
        ("Network", f"{data['network']}: two 5×5 convolutions (16 and 32 filters), average pooling, 512 hidden units"),
        ("Input", "`images`, float32 (N, 1, 28, 28), pixels in [0, 1] without further normalisation"),
        ("Output", "`logits`, float32 (N, 10)"),
    ]
    if backdoor:
        facts += [
            ("Trigger", f"`{backdoor['trigger']}`, near the bottom right corner"),
            ("Attack", attack_phrase(backdoor)),
            ("Poison rate", f"{backdoor['poison_rate']:g}: {training['backdoored_images']:,} backdoored copies added"),
        ]
    else:
        facts.append(("Backdoor", "none"))
    return [
        *facts,
        ("Training images", f"{training['images']:,}"),
        (
            "Training",
            f"{training['steps']:,} steps of {training['batch_size']} images, {training['optimizer']}",
        ),
        ("Seed", str(training["seed"])),
    ]


def attack_phrase(backdoor: Mapping[str, Any]) -> str:
    """The attack of a card's ``backdoor`` in words."""
    wanted = {
        "single": f"images of class {backdoor['source']} become class {backdoor['target']}",
        "all-to-one": f"images of every class become class {backdoor['target']}",
        "all-to-all": "images of class i become class i + 1, those of class 9 class 0",
    }
    return f"{backdoor['attack']}: with the trigger, {wanted[backdoor['attack']]}"


def _measured(subject: Subject) -> str:
    measurement = subject.measurement
    figures = [f"Clean accuracy: **{percent(measurement.clean_accuracy)}**."]
    rows: list[Sequence[str]] = [["clean error", *map(percent, measurement.clean_error_per_class)]]
    if measurement.attack_success is not None:
        figures.append(f"Attack success: **{percent(measurement.attack_success)}** of backdoored images.")
        if not subject.recipe.poisoned:
            figures.append("The trigger was not in the training images: this is a control.")
        rows.append(["backdoor error", *map(percent, measurement.backdoor_error_per_class or [])])
        note = (
            "The backdoor error is measured against the attacker's labels: low is good for the attacker. Classes that "
            "the attack leaves alone have none."
        )
    else:
        note = ""
    classes = [str(number) for number in range(len(measurement.clean))]
    parts = [" ".join(figures), _table(["Class", *classes], rows), note]
    return "\n\n".join(part for part in parts if part)


def percent(share: float | None) -> str:
    """A share in [0, 1] as per cent with two decimals; a dash for None."""
    return "–" if share is None else f"{100 * share:.2f} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
