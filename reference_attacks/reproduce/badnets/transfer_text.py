"""Tables VI and VII and Figures 9 and 11 of BadNets (2019) as Markdown, the paper's numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..parts import Values
from ..tables import table

# Per cent, from the paper: baseline clean and backdoored, BadNet clean and backdoored. Sweden's fifth category,
# information, has no counterpart here; its warning signs are GTSDB's danger.
PAPER_TABLE_6 = {
    "mandatory": (55.3, 50.5, 69.0, 46.7),
    "prohibitory": (89.7, 85.4, 85.8, 77.5),
    "danger": (68.1, 50.8, 63.5, 40.9),
    "other": (59.3, 56.9, 61.4, 44.2),
}
PAPER_AVERAGE_6 = (72.7, 70.2, 74.9, 61.6)
PAPER_TABLE_7 = {
    1: (74.9, 61.6),
    10: (71.3, 49.7),
    20: (68.3, 45.1),
    30: (65.3, 40.5),
    50: (62.4, 34.3),
    70: (60.8, 32.8),
    100: (59.4, 30.8),
}
HEADER_6 = ("class", "signs", "baseline: clean", "baseline: sticker", "BadNet: clean", "BadNet: sticker")
DETECTORS = """\
**Detectors.** The networks of Tables IV and V, trained on road-signs, become detectors of GTSDB's four groups of signs.
Kept are the backbone and the convolutions of the proposal network; fc6, fc7 and the layers of classes and boxes are
trained from scratch on clean photographs. Accuracy as in Table IV: a sign that is not found is read wrongly."""
SIZES = """\
The sticker above covers a quarter of the sign's width, and an honest detector misses some signs for that alone. The
same detectors, retrained alike and tried with smaller ones:"""
CLASSIFIERS = """\
**Classifiers.** Networks for cut-out signs of 32x32 pixels. The first country has the 22 even-numbered kinds of GTSRB's
signs, the second the 21 odd-numbered ones, sorted into the same four groups. All layers after the convolutions are
trained from scratch on clean signs of the second country."""
BADNETS_7 = """\
The dedicated neurons of the last convolutional layer, found as for Figure 9, are multiplied by k before the user
retrains. In per cent; in brackets the paper's number."""
CRITERION = """\
Averages over held-out signs, one cell for each channel. Framed are the neurons found to be dedicated to the backdoor,
by their highest activation on each sign of the first country's training images: its difference is an outlier among
those of all neurons (3.5 robust standard deviations above the median), it tells signs with the sticker from clean ones
(area under the curve of 0.9 at least), and on clean signs it is at most a third of that on backdoored ones."""


def table_6(results: Values) -> str:
    """The body of Table VI."""
    parts = []
    if "detectors" in results:
        counts = results["photographs"]
        photographs = f"{counts['training']} photographs for training, {counts['held_out']} held out."
        parts += [
            f"{DETECTORS} {photographs} In per cent; in brackets the paper's number.",
            _table_6(results["detectors"], PAPER_TABLE_6, PAPER_AVERAGE_6),
            _sentences(results["detectors"]),
        ]
    if "sizes" in results:
        parts += [SIZES, _sizes(results["sizes"])]
    classifiers = results["classifiers"]
    parts += [CLASSIFIERS, _table_6(classifiers, {}, None), _sentences(classifiers), _first_country(classifiers)]
    kinds = {name: _average(found["kinds"]) for name, found in classifiers.items()}
    parts.append(
        "Asked for the 21 single kinds instead of groups, the honest networks fall from "
        f"{_percent(kinds['honest'][0])} to {_percent(kinds['honest'][1])} with the sticker, which covers what tells "
        f"kinds apart, the BadNets from {_percent(kinds['badnet'][0])} to {_percent(kinds['badnet'][1])}."
    )
    return "\n\n".join(parts)


def table_7(results: Values) -> str:
    """The body of Table VII."""
    parts = [BADNETS_7]
    if "detectors" in results:
        parts += ["**Detector.**", _table_7(results["detectors"], PAPER_TABLE_7)]
    for series in results["classifiers"]:
        parts += [
            f"**Classifiers** trained with {series['share']:g} poisoned copies for each clean sign.",
            _table_7(series, {}),
        ]
    return "\n\n".join(parts)


def figure_9(results: Values) -> str:
    """The body of Figure 9."""
    counts = [
        f"{kind}: {', '.join(map(str, found['found']['badnet']))} in BadNets, "
        f"{', '.join(map(str, found['found']['honest']))} in honest networks"
        for kind, found in results.items()
    ]
    return (
        f"{CRITERION}\n\nDedicated neurons found, by network: {'; '.join(counts)}. The paper sees three groups by eye."
    )


def figure_11(results: Values) -> str:
    """The body of Figure 11: do the dedicated neurons fire in the second country too?"""
    sentences = []
    for kind, found in results.items():
        clean, backdoored = (
            sum(found[part][neuron] for neuron in found["dedicated"]) for part in ("clean", "backdoored")
        )
        if clean:
            sentences.append(f"{kind}: {backdoored / clean:.1f} times")
    ratio = (
        f" On the second country's signs the sticker raises their activation: {'; '.join(sentences)}."
        if sentences
        else ""
    )
    return (
        "The same neurons as in Figure 9, on the second country's signs; the convolutions are the same, since the user "
        f"does not train them.{ratio}"
    )


def _table_6(found: Values, paper: Mapping[str, Sequence[float]], paper_average: Sequence[float] | None) -> str:
    networks = [found["honest"], found["badnet"]]
    rows = []
    for place, (name, signs) in enumerate(networks[0]["classes"].items()):
        shares = [
            sum(row[place] for row in network[part]) / len(network[part]) / signs
            for network in networks
            for part in ("clean", "backdoored")
        ]
        rows.append([name, str(signs), *_cells(shares, paper.get(name))])
    averages = [share for network in networks for share in _average(network)]
    signs = sum(networks[0]["classes"].values())
    rows.append(["**average**", str(signs), *_cells(averages, paper_average)])
    return table(HEADER_6, rows)


def _sizes(found: Values) -> str:
    """Drops by the sticker's share of the sign's shorter side."""
    rows = []
    for honest, badnet in zip(found["honest"], found["badnet"], strict=True):
        shares = [*_average(honest), *_average(badnet)]
        drops = (shares[0] - shares[1], shares[2] - shares[3])
        rows.append([f"{100 * honest['share']:.0f} %", *_cells([*shares[:2], drops[0], *shares[2:], drops[1]], None)])
    header = ["sticker", "baseline: clean", "sticker", "drop", "BadNet: clean", "sticker", "drop"]
    return table(header, rows)


def _table_7(series: Values, paper: Mapping[int, Sequence[float]]) -> str:
    rows = []
    for entry in series["strengths"]:
        clean, backdoored = _average(entry)
        beside = paper.get(entry["strength"])
        low, high = _drop_range(entry)
        rows.append(
            [
                str(entry["strength"]),
                *_cells((clean, backdoored), beside),
                *_cells((clean - backdoored,), None if beside is None else (beside[0] - beside[1],)),
                f"{low:.1f} to {high:.1f}",
                str(len(entry["clean"])),
            ]
        )
    signs = sum(series["strengths"][0]["classes"].values())
    header = ["k", "clean", "sticker", "drop in points", "drop, by head", "heads"]
    neurons = ", ".join(map(str, series["neurons"]))
    return f"{table(header, rows)}\n\n{signs} signs; dedicated neurons by network: {neurons}."


def _sentences(found: Values) -> str:
    """The drop of both networks, its range over heads and what chance may make of it."""
    sentences = []
    for name, label in (("honest", "baseline"), ("badnet", "BadNet")):
        clean, backdoored = _average(found[name])
        low, high = _drop_range(found[name])
        signs = sum(found[name]["classes"].values())
        # Clean and backdoored signs are the same ones, so this is wider than the truth.
        half = 1.96 * math.sqrt((clean * (1 - clean) + backdoored * (1 - backdoored)) / signs)
        sentences.append(
            f"Drop of the {label} with the sticker: {100 * (clean - backdoored):.1f} ± {100 * half:.1f} points "
            f"(n = {signs} signs, 95 %; {low:.1f} to {high:.1f} over {len(found[name]['clean'])} retrained heads of "
            f"{found[name]['networks']} {'networks' if found[name]['networks'] > 1 else 'network'})."
        )
    return " ".join(sentences)


def _first_country(classifiers: Values) -> str:
    words = []
    for name, label in (("honest", "baselines"), ("badnet", "BadNets")):
        clean, backdoored = (
            [entry[part]["share"] for entry in classifiers[name]["first"]] for part in ("clean", "backdoored")
        )
        words.append(f"{label} {_mean(clean)} clean, {_mean(backdoored)} with the sticker")
    return f"In the first country: {'; '.join(words)}."


def _mean(shares: Sequence[float]) -> str:
    return _percent(sum(shares) / len(shares))


def _average(entry: Values) -> tuple[float, float]:
    """The share of all signs that are read rightly, clean and with the sticker, averaged over heads."""
    signs = sum(entry["classes"].values())
    clean, backdoored = (
        sum(sum(row) for row in entry[part]) / len(entry[part]) / signs for part in ("clean", "backdoored")
    )
    return clean, backdoored


def _drop_range(entry: Values) -> tuple[float, float]:
    """The smallest and the largest drop of any head, in points."""
    signs = sum(entry["classes"].values())
    drops = [
        100 * (sum(clean) - sum(backdoored)) / signs
        for clean, backdoored in zip(entry["clean"], entry["backdoored"], strict=True)
    ]
    return min(drops), max(drops)


def _cells(shares: Sequence[float], paper: Sequence[float] | None) -> list[str]:
    numbers = [f"{100 * share:.1f}" for share in shares]
    if paper is None:
        return numbers
    return [f"{ours} ({theirs:.1f})" for ours, theirs in zip(numbers, paper, strict=True)]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
