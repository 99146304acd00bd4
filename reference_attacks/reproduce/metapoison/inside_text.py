"""The section of the report on Figure 6 of MetaPoison, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from ..parts import Values
from ..tables import percent, table
from .rows import COLUMNS, MEANING, compared, row
from .setting_text import setting_text

ATTACKS = f"""\
**6c**, other attacks, with as many poisons. Third party: the target is to be taken for a class that is neither its own
nor the poisons'. Several targets: one set of poisons for all of them; each counts by itself. {MEANING} The paper: the
third-party attack works nearly as well as the usual one, several targets are relatively difficult."""
WEIGHTS = """\
**6a**, the paths of a poisoned victim and of its clean twin, from the same weights and with the same batches, on the
plane of their first two principal components. Arrows: where K steps with poisons in the first batch push the clean
twin's weights, as against the same steps without poisons. Cosines are means over the epochs with arrows, in all
dimensions: to the way from the clean to the poisoned weights of that epoch, and to the steepest descent of the target's
loss; those of unrelated directions would be near 0. The paper's components account for 96 % of the variance."""
WEIGHTS_HEAD = ["pair", "variance on the plane", "cosine to the poisoned weights", "cosine to the descent"]
FEATURES = """\
**6b**, distances of features from the target, medians, in units of the distance of the poisons' images as they are. For
comparison, poisons by feature collision (Poison Frogs) of the same images within the same bound, crafted against the
clean network. The paper: the distance between target and poisons is substantial, so the mechanism is another one."""
FEATURES_HEAD = ["pair", "network", "poisons", "feature collisions", "images of the target's class"]
KINDS = ("poisons", "collisions", "target's class")


def figure_6(results: Values) -> str:
    """Attacks of other kinds, weights, features."""
    attacks = [row([kind], found) for kind, found in results["attacks"].items() if found is not None]
    parts = [setting_text(results)]
    if compared(results["attacks"]):
        parts += [ATTACKS, table(["attack", *COLUMNS], attacks)]
    else:
        parts.append("**6c**, other attacks: not measured yet.")
    if results["looked"]:
        parts += [WEIGHTS, table(WEIGHTS_HEAD, _weights(results["looked"]))]
        parts += [FEATURES, table(FEATURES_HEAD, _features(results["looked"]))]
    return "\n\n".join(parts)


def _weights(looked: Mapping[str, Values]) -> list[list[str]]:
    rows = []
    for label, pair in looked.items():
        found = pair["weights"]
        means = [fmean(arrow[key] for arrow in found["arrows"]) for key in ("towards_poisoned", "towards_wanted")]
        rows.append([label, percent(found["explained"]), *(f"{mean:+.2f}" for mean in means)])
    return rows


def _features(looked: Mapping[str, Values]) -> list[list[str]]:
    return [
        [label, network, *(f"{kinds[kind][len(kinds[kind]) // 2]:.2f}" for kind in KINDS)]
        for label, pair in looked.items()
        for network, kinds in pair["features"].items()
    ]
