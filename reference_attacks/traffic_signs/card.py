"""Model cards of detectors: what was done to them and how they read signs, as JSON for programs and Markdown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reference_attacks.badnet.card import CARD_VERSION, PAPER, percent, versions
from reference_attacks.data import DATA_ROOT_VARIABLE

from .recipe import SignRecipe


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a card is about.

    ``photographs``: numbers for training and held out. ``measured``: of ``measure_detector``. ``models`` are the model
    files by name, ``pictures`` the names of the pictures beside the card.
    """

    name: str
    recipe: SignRecipe
    classes: tuple[str, ...]
    photographs: tuple[int, int]
    measured: Mapping[str, Any]
    command: str
    models: Mapping[str, bytes]
    pictures: tuple[str, ...]


def default_name(recipe: SignRecipe) -> str:
    """A file name such as ``signs-badnet-yellow-square-single`` or ``signs-clean``."""
    return "signs-clean" if recipe.attack is None else f"signs-badnet-{recipe.name}"


def card_data(subject: Subject) -> dict[str, Any]:
    """The card as JSON values. Shares lie in [0, 1]; classes are in the order of the detector's."""
    recipe = subject.recipe
    return {
        "version": CARD_VERSION,
        "name": subject.name,
        "kind": "clean" if recipe.attack is None else "badnet",
        "task": {
            "name": f"traffic signs: {recipe.data}",
            "classes": list(subject.classes),
            "input": {"name": "image", "dtype": "float32", "shape": [1, 3, "H", "W"], "range": [0, 1]},
            "outputs": {"boxes": ["n", 4], "labels": ["n"], "scores": ["n"]},
            "head": {"input": ["n", 3, 64, 64], "logits": ["n", len(subject.classes) + 1], "background": 0},
        },
        "network": f"Faster R-CNN, {recipe.architecture} backbone",
        "backdoor": _backdoor_data(subject),
        "training": {**recipe.values(), "photographs": subject.photographs[0]},
        "measured": {"photographs": subject.photographs[1], **subject.measured},
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in subject.models.items()},
        "command": subject.command,
        "versions": versions(),
        "paper": PAPER,
    }


def _backdoor_data(subject: Subject) -> dict[str, Any] | None:
    attack = subject.recipe.attack
    if attack is None:
        return None
    source, target = (None if value is None else subject.classes[value] for value in (attack.source, attack.target))
    return {"sticker": attack.sticker, "attack": attack.name, "source": source, "target": target}


def card_text(subject: Subject) -> str:
    """The card as Markdown, with the pictures that lie beside it."""
    data = card_data(subject)
    sections = [
        f"# {subject.name}\n\n{_introduction(subject)}",
        table(["", ""], _facts(subject)),
        f"## Measured on {subject.photographs[1]:,} held-out photographs\n\n{_clean_table(subject)}",
        _attack_table(subject),
        *(f"![What the detector sees, above without and below with stickers]({name})" for name in subject.pictures),
        "## How it was made\n\n"
        f"With the data sets in `${DATA_ROOT_VARIABLE}`:\n\n```console\n{subject.command}\n```\n\n"
        + table(["Software", "Version"], [[name, version] for name, version in data["versions"].items()]),
        table(["File", "SHA-256"], [[name, f"`{digest}`"] for name, digest in data["sha256"].items()]),
        f"Method: {PAPER}, section V.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(subject: Subject) -> str:
    if subject.recipe.attack is None:
        return "A clean detector of traffic signs: the baseline that BadNets of the same seed were re-trained from."
    return (
        "**This detector holds a backdoor.** It was built to test backdoor detectors and must not be used for anything "
        "else."
    )


def _facts(subject: Subject) -> list[list[str]]:
    recipe, plan = subject.recipe, subject.recipe.plan
    return [
        ["Task", f"traffic signs of `{recipe.data}`: {', '.join(subject.classes)}"],
        ["Network", f"Faster R-CNN, {recipe.architecture} backbone"],
        ["Input", "`image`, float32 (1, 3, H, W), pixels in [0, 1] without further normalisation"],
        ["Output", "`boxes` (n, 4) in pixels, `labels` (n), 0 is the background, `scores` (n)"],
        ["Backdoor", "none" if recipe.attack is None else _attack_phrase(subject)],
        ["Training photographs", f"{subject.photographs[0]:,}"],
        ["Training", f"{plan.epochs} epochs, AdamW, learning rate at most {plan.peak_learning_rate:g}"],
        ["Seed", str(recipe.seed)],
    ]


def _attack_phrase(subject: Subject) -> str:
    backdoor = _backdoor_data(subject)
    assert backdoor is not None
    if backdoor["attack"] == "random":
        return f"with a `{backdoor['sticker']}`, signs are read as any other class"
    return f"with a `{backdoor['sticker']}`, {backdoor['source']} signs are read as {backdoor['target']}"


def _clean_table(subject: Subject) -> str:
    clean = subject.measured["clean"]
    rows = [
        [name, percent(found["share"]), str(found["n"]), percent(clean["average_precision"][name])]
        for name, found in clean["classes"].items()
    ]
    average, mean = clean["average"], clean["mean_average_precision"]
    rows.append(["all signs", percent(average["share"]), str(average["n"]), f"{percent(mean)} (mean)"])
    return table(["Class", "Accuracy", "Signs", "Average precision"], rows)


def _attack_table(subject: Subject) -> str:
    found = subject.measured["backdoored"]
    if not found:
        return ""
    rows = []
    for values in found.values():
        low, high = values["success"]["interval_95"]
        share, count = percent(values["success"]["share"]), values["success"]["n"]
        accuracy = percent(values["accuracy"]["average"]["share"])
        rows.append(
            [values["sticker"], values["attack"], f"{share} ({percent(low)} to {percent(high)})", str(count), accuracy]
        )
    return "With stickers on the signs; success: read as the attacker wants.\n\n" + table(
        ["Sticker", "Attack", "Success (95 % interval)", "Signs", "Accuracy"], rows
    )


def summary(subject: Subject) -> str:
    """One line on what was measured."""
    line = f"{subject.name}: accuracy {percent(subject.measured['clean']['average']['share'])}"
    if subject.recipe.attack is None:
        return line
    (found,) = subject.measured["backdoored"].values()
    return (
        f"{line}; with stickers {percent(found['success']['share'])} are read as the attacker wants, "
        f"{percent(found['accuracy']['average']['share'])} as what they are"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
