"""The sections of the report on Figures 3 to 5 of MetaPoison, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean

from ..parts import Values
from ..tables import percent, table
from .rows import COLUMNS, MEANING, compared, row
from .setting_text import setting_text

ARM_NAMES = {
    "poisoned": "crafted poisons",
    "random": "random perturbation within the same bound",
    "clean": "the same images unperturbed",
}
VARIANT_NAMES = {
    "baseline": "as the poisoner expects",
    "batch and rate": "twice the batch and the learning rate",
    "optimiser": "another optimiser (momentum or none)",
    "regularisation": "weight decay and augmentation",
    "architecture": "another architecture",
}
PAPER_ROW = ["paper: crafted poisons", "10 pairs of 8", "nearly 100%", "–", "–", "–", "unaffected", "–"]
FIGURE_3 = """\
The target's loss is the cross-entropy of the wanted class. The paper: unrolling lowers it only slightly, yet victims'
loss falls by much; success grows with craft steps, and the validation accuracy stays."""
WHILE_CRAFTING = "While crafting, means over the surrogates and the last tenth of the craft steps:"
AFTER_STEPS = f"Victims trained from scratch on the poisons after some craft steps. {MEANING}"
CHANGE = """\
Change: of the validation accuracy, against clean victims of the same initialisation and order of batches."""
BUDGETS = """\
**5a**, poisons as a share of the training set. The paper: success over 50 % with 3 to 10 %, and the pair matters more
than the number of poisons."""
VARIANTS = """\
**5b**, victims that are trained otherwise, on the same poisons. The paper: with some variance over pairs, astonishingly
robust."""
BOUNDS = "Another bound of a pixel's change, the same pairs (the paper has 16/255):"


def figure_3(results: Values) -> str:
    """Losses while crafting, and victims of some craft steps."""
    crafted = [_crafted(label, pair["history"]) for label, pair in results["pairs"].items()]
    head = ["pair", "craft steps", "loss before unrolling", "after", "lowered by", "surrogates' success after it"]
    rows = [
        row([label, step], found, f"{found['loss']:.2f}")
        for label, pair in results["pairs"].items()
        for step, found in pair["steps"].items()
        if found is not None
    ]
    parts = [setting_text(results), FIGURE_3]
    if crafted:
        parts += [WHILE_CRAFTING, table(head, crafted)]
    if rows:
        parts += [AFTER_STEPS, table(["pair", "craft steps", *COLUMNS, "target's loss"], rows)]
    return "\n\n".join(parts)


def _crafted(label: str, history: list[Values]) -> list[str]:
    last = history[-max(1, len(history) // 10) :]
    before, after, success = (fmean(step[key] for step in last) for key in ("loss_before", "loss_after", "success"))
    return [label, str(len(history)), f"{before:.2f}", f"{after:.2f}", f"{before - after:.2f}", percent(success)]


def figure_4(results: Values) -> str:
    """The arms, and what they are by pair."""
    arms = {arm: found for arm, found in results["arms"].items() if found is not None}
    if not arms:
        return setting_text(results)
    changes = results["accuracy_changes"]
    rows = [
        row([ARM_NAMES[arm]], found, "–" if changes.get(arm) is None else f"{changes[arm]:+.2f}")
        for arm, found in arms.items()
    ]
    by_pair = [_pair(label, pair, list(arms)) for label, pair in results["pairs"].items()]
    parts = [
        f"{setting_text(results)} {MEANING} {CHANGE}",
        table(["victims are trained on", *COLUMNS, "change (points)"], [*rows, PAPER_ROW]),
        _difference(results),
        table(["pair", *(ARM_NAMES[arm] for arm in arms)], by_pair),
    ]
    return "\n\n".join(parts)


def _pair(label: str, pair: Mapping[str, Values], arms: list[str]) -> list[str]:
    return [label, *(percent(pair[arm]["evaluation"]["success"][-1]) for arm in arms)]


def _difference(results: Values) -> str:
    seconds, difference = results["crafting_seconds"], results["difference"]
    sentences = []
    if difference is not None:
        sentences.append(
            f"Crafted poisons succeed {difference:.1f} percentage points more often than random perturbation."
        )
    if seconds:
        sentences.append(
            f"Crafting the poisons of one pair took {fmean(seconds) / 60:.1f} minutes on average "
            f"({min(seconds) / 60:.1f} to {max(seconds) / 60:.1f})."
        )
    return " ".join([*sentences, "Success by pair:"])


def figure_5(results: Values) -> str:
    """Budgets, variants and bounds."""
    budgets = _by_pair(results["budgets"], lambda share: f"{100 * float(share):g} %")
    variants = _by_pair(results["variants"], VARIANT_NAMES.__getitem__)
    bounds = [row([f"{levels}/255"], found) for levels, found in results["bounds"].items() if found is not None]
    comparisons = [
        ("**5a**, fewer poisons", BUDGETS, ["pair", "poisons"], budgets),
        ("**5b**, victims that are trained otherwise", VARIANTS, ["pair", "victims are trained"], variants),
        ("Another bound of a pixel's change", BOUNDS, ["bound"], bounds if compared(results["bounds"]) else []),
    ]
    parts = [f"{setting_text(results)} {MEANING}"]
    for name, about, head, rows in comparisons:
        parts += [about, table([*head, *COLUMNS], rows)] if rows else [f"{name}: not measured yet."]
    return "\n\n".join(parts)


def _by_pair(pairs: Mapping[str, Values], name: Callable[[str], str]) -> list[list[str]]:
    """Rows of the pairs of which more than one point is there."""
    return [
        row([label, name(point)], found)
        for label, points in pairs.items()
        if compared(points)
        for point, found in points.items()
        if found is not None
    ]
