"""Figures 1 and 2 of Poison Frogs (2018) as Markdown, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from ...traffic_signs.evaluation import wilson_interval
from ..parts import Values
from ..tables import percent, table

TASKS = {
    "dog-frog": "dog and frog",
    "dog-frog-within-2": "dog and frog, every pixel within 2 of 255",
    "dog-frog-within-4": "dog and frog, every pixel within 4 of 255",
    "dog-frog-within-8": "dog and frog, every pixel within 8 of 255",
    "dog-frog-within-16": "dog and frog, every pixel within 16 of 255",
    "dog-frog-of-100": "dog and frog, 100 training images of each",
    "dog-frog-of-900": "dog and frog, 900 training images of each, as in the paper",
    "dog-frog-ship": "dog and frog, with ships as a third class",
    "stop-yield": "traffic signs: stop and yield",
}
SUCCESS_HEAD = (
    "classes",
    "targets",
    "success (95 %)",
    "median confidence",
    "poisons learnt",
    "clean accuracy",
    "mean drop",
    "worst drop",
)
CRAFTING_HEAD = (
    "classes",
    "training images",
    "features",
    "‖f(b) − f(t)‖",
    "stop at",
    "‖f(p) − f(t)‖",
    "below it",
    "ℓ2 of the change",
    "ℓ∞ of 255: median, most",
    "steps: median, most",
)
SETTING_1 = """\
A frozen feature extractor, and a last layer trained cold on clean images and one poison: Adam, rate 0.01, 100 epochs,
minibatches of 32 (of the published code). Extractors are our own, trained on the other classes of CIFAR-10 and of the
German traffic signs; the paper has InceptionV3 and dogs against fish of ImageNet. Training images are 300 of each class
unless others are named. Targets are test images that the clean layer classifies correctly, half of each class; bases
are test images of the other class, of 20 random ones the one nearest to the target in features (the paper: random).
Poisons are uint8 images, crafted with steps by Polyak's rule (the paper: one learning rate); β₀ is 0.0001, in the paper
0.25. Drops of accuracy are in percentage points, over all test images, the target among them."""
SETTING_2 = """\
Angles in degrees between the normals of the decision boundary between target's and base's class, in the poisoned and in
the clean last layer, which start from the same weights and see the clean images in the same order. What chance alone
does, between two clean layers of different starts and orders, is in the last column."""


def figure_1(results: Values) -> str:
    """The body of Figure 1."""
    success = [_success(name, found) for name, found in results.items()]
    paper = ("paper: dog and fish", "1,099", "100.0%", "99.6%", "–", "99.5%", "0.20", "0.40")
    crafting = [_crafting(name, found) for name, found in results.items()]
    parts = [SETTING_1, table(SUCCESS_HEAD, [*success, paper]), table(CRAFTING_HEAD, crafting), _failures(results)]
    return "\n\n".join(part for part in parts if part)


def _success(name: str, found: Values) -> Sequence[str]:
    hits, count = sum(found["hit"]), len(found["hit"])
    low, high = wilson_interval(hits, count)
    drops = [100 * (found["clean_accuracy"] - accuracy) for accuracy in found["accuracy"]]
    return (
        TASKS[name],
        f"{count:,}",
        f"{percent(hits / count)} ({low:.1%} to {high:.1%})",
        percent(median(found["confidence"])),
        f"{sum(found['learnt'])} of {count}",
        percent(found["clean_accuracy"]),
        f"{fmean(drops):.2f}",
        f"{max(drops):.2f}",
    )


def _crafting(name: str, found: Values) -> Sequence[str]:
    distances, stop = found["distances"], found["stop_distance"]
    return (
        TASKS[name],
        f"{found['training_images']:,}",
        f"{found['features']:,}",
        f"{median(found['initial_distances']):.2f}",
        f"{stop:.2f}",
        f"{median(distances):.2f}",
        percent(sum(distance < stop for distance in distances) / len(distances)),
        f"{median(found['l2']):.2f}",
        f"{median(found['linf']):.0f}, {max(found['linf'])}",
        f"{median(found['iterations']):.0f}, {max(found['iterations'])}",
    )


def _failures(results: Values) -> str:
    """A sentence on the bound, where one was tried that was too narrow."""
    tried = [name for name in results if "within" in name]
    missed = [name.rsplit("-", 1)[1] for name in tried if not all(results[name]["hit"])]
    if not missed:
        return ""
    found = [name.rsplit("-", 1)[1] for name in tried if all(results[name]["hit"])]
    end = f"the first within which every attack succeeds is {found[0]}" if found else "none of those tried is enough"
    return (
        f"Within {' and '.join(missed)} of 255 not every attack succeeds; {end}. The paper's bound of 2 is for images "
        "of 299x299 pixels, five times as many numbers to change as in the enlarged ones here, of 128x128."
    )


def figure_2(results: Values) -> str:
    """The body of Figure 2."""
    head = ("classes", "mean", "median", "5 % to 95 %", "after the first epoch", "by chance")
    rows = [_angles(TASKS[name], found) for name, found in results["transfer"].items()]
    if results["end_to_end"] is not None:
        rows.append(_angles("end to end", results["end_to_end"]))
    paper = ("paper: dog and fish", "23", "–", "–", "most of it", "–")
    missing = "" if results["end_to_end"] else "Rotations of end-to-end training were not measured in this run."
    return "\n\n".join(part for part in (SETTING_2, table(head, [*rows, paper]), missing) if part)


def _angles(name: str, found: Values) -> Sequence[str]:
    angles = sorted(found["angles"])
    low, high = (angles[round(share * (len(angles) - 1))] for share in (0.05, 0.95))
    chance = found.get("restart_angle")
    return (
        name,
        f"{fmean(angles):.1f}",
        f"{median(angles):.1f}",
        f"{low:.1f} to {high:.1f}",
        f"{found['mean_angle_by_epoch'][0]:.1f}",
        "–" if chance is None else f"{chance:.1f}",
    )
