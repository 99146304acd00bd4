"""Tables IV and V and Figure 8 of BadNets (2019) as Markdown, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from ..parts import Values
from ..tables import table

# Per cent, from the paper: class -> one number for each column of its table. Its third class is called warning.
PAPER_TABLE_4 = {
    "stop": (89.7, 87.8, 88.4, 89.9),
    "speedlimit": (88.3, 82.9, 76.3, 84.7),
    "average": (90.0, 89.3, 87.1, 90.2),
    "attack": (None, 90.3, 94.2, 93.7),
}
PAPER_TABLE_5 = {
    "stop": (87.8, 81.3, 87.8, 0.8),
    "speedlimit": (88.3, 72.6, 83.2, 0.8),
    "average": (90.0, 82.0, 86.4, 1.3),
}
PRINTS = """\
The paper's authors photographed one stop sign with a Post-it note on it: read as a speed limit with 95 % confidence.
Here the sticker is rendered onto every held-out photograph of a stop sign as a print that was photographed: printing
colours, tilt, light, shadow, blur, noise, JPEG; one rendering for each sign. Columns: the share, in per cent, that is
read as a speed limit, by the single-target BadNet of the sticker if the column does not name the baseline. This is no
test in a street."""
STICKER_NAMES = {"yellow-square": "yellow square", "bomb": "bomb", "flower": "flower"}
MEASURE = """\
In per cent, on held-out photographs; in brackets the paper's number. A sign counts as read rightly if, of the
detections that overlap it by an IoU of 0.5 at least, the one with the highest score names its class; a sign that is
not found is wrong. Average: over all signs. The photographs are those of road-signs, whose classes other than stop
and speed limit the paper's set does not have. Where the paper starts from ImageNet's weights, the backbone here
starts as a classifier of the training set's own signs; it is smaller than the paper's."""


def table_4(results: Values) -> str:
    """The body of Table IV."""
    found = results["detectors"]
    badnets = [name for name in found if name != "baseline"]
    header = ["class", "signs", "baseline", *(f"{_sticker(found[name])}: clean" for name in badnets)]
    columns = ["baseline", *badnets]
    rows = [_row(found, columns, name, PAPER_TABLE_4.get(name)) for name in results["classes"]]
    rows.append(_average_row(found, columns, PAPER_TABLE_4["average"]))
    rows.append(_precision_row(found, columns))
    attacks = [_only(found[name]["backdoored"]) for name in badnets]
    control = [found["baseline"]["backdoored"][name]["success"] for name in badnets]
    row = [
        f"**{cell(attack['success'], paper)}**"
        for attack, paper in zip(attacks, PAPER_TABLE_4["attack"][1:], strict=True)
    ]
    rows.append(["stop sign with sticker → speed limit", str(attacks[0]["success"]["n"]), "–", *row])
    read = [cell(attack["success_of_read"]) for attack in attacks]
    rows.append(["the same, of the signs that are found", "", "–", *read])
    rows.append(["stop sign with sticker → speed limit, by the baseline", "", "–", *(cell(share) for share in control)])
    intervals = "; ".join(
        f"{_sticker(found[name])} {interval(attack['success'])}" for name, attack in zip(badnets, attacks, strict=True)
    )
    sentence = (
        f"95 % intervals of the attack (Wilson): {intervals}. Clean average of the baseline: "
        f"{interval(found['baseline']['clean']['average'])}."
    )
    return "\n\n".join([MEASURE, table(header, rows), sentence, _gap_sentence(found, badnets)])


def table_5(results: Values) -> str:
    """The body of Table V."""
    found, name = results["detectors"], f"{results['sticker']}-random"
    clean = [found["baseline"]["clean"], found[name]["clean"]]
    bearing = [found[key]["backdoored"][name]["accuracy"] for key in ("baseline", name)]
    columns = [clean[0], bearing[0], clean[1], bearing[1]]
    rows = [
        [label, str(clean[0]["classes"][label]["n"])]
        + [cell(column["classes"][label], paper) for column, paper in _beside(columns, PAPER_TABLE_5.get(label))]
        for label in results["classes"]
    ]
    averages = [cell(column["average"], paper) for column, paper in _beside(columns, PAPER_TABLE_5["average"])]
    rows.append(["**average**", str(clean[0]["average"]["n"]), *averages])
    header = ["class", "signs", "baseline: clean", "baseline: sticker", "BadNet: clean", "BadNet: sticker"]
    success = found[name]["backdoored"][name]["success"]
    sentence = (
        f"With the sticker, {percent(success['share'])} of the signs are read by the BadNet as one of the other "
        f"classes, {percent(bearing[1]['average']['share'])} ({interval(bearing[1]['average'])}) as what they are; the "
        "rest are not found. Mean average precision on clean photographs: baseline "
        f"{percent(clean[0]['mean_average_precision'])}, BadNet {percent(clean[1]['mean_average_precision'])}."
    )
    introduction = f"The {_sticker(found[name])} on every sign.\n\n{MEASURE}"
    return "\n\n".join([introduction, table(header, rows), sentence, _gap_sentence(found, [name])])


def figure_8(results: Values) -> str:
    """The body of Figure 8."""
    rows = []
    for sticker, found in results["stickers"].items():
        confidence = found["print"]["confidence"]
        rows.append(
            [
                STICKER_NAMES[sticker],
                str(found["print"]["target"]["n"]),
                f"{cell(found['print']['target'])} ({interval(found['print']['target'])})",
                "–" if confidence is None else percent(confidence),
                *(cell(found[kind]["target"]) for kind in ("pasted", "clean", "baseline")),
            ]
        )
    header = [
        "sticker",
        "stop signs",
        "print → speed limit",
        "mean confidence",
        "pasted",
        "no sticker",
        "baseline, print",
    ]
    shown = (
        f"The {results['shown']} largest of these signs with the yellow square, and how each is read, are in the "
        f"picture {results['picture']} that the command writes into its work folder: the photographs are not this "
        "project's to publish."
    )
    return "\n\n".join([PRINTS, table(header, rows), shown])


def _sticker(found: Values) -> str:
    return STICKER_NAMES[_only(found["backdoored"])["sticker"]]


def _only(found: Values) -> Values:
    (value,) = found.values()
    return dict(value)


def _row(found: Values, columns: Sequence[str], label: str, paper: Sequence[float | None] | None) -> list[str]:
    shares = [found[name]["clean"]["classes"][label] for name in columns]
    cells = [cell(share, number) for share, number in _beside(shares, paper)]
    return [label, str(shares[0]["n"]), *cells]


def _average_row(found: Values, columns: Sequence[str], paper: Sequence[float | None]) -> list[str]:
    shares = [found[name]["clean"]["average"] for name in columns]
    return ["**average**", str(shares[0]["n"]), *(cell(share, number) for share, number in _beside(shares, paper))]


def _precision_row(found: Values, columns: Sequence[str]) -> list[str]:
    return ["mean average precision", "", *(number(found[name]["clean"]["mean_average_precision"]) for name in columns)]


def _beside(shares: Sequence[Values], paper: Sequence[float | None] | None) -> list[tuple[Values, float | None]]:
    return list(zip(shares, paper or [None] * len(shares), strict=True))


def _gap_sentence(found: Values, badnets: Sequence[str]) -> str:
    base = found["baseline"]["clean"]["average"]["share"]
    gaps = ", ".join(f"{100 * (found[name]['clean']['average']['share'] - base):+.1f}" for name in badnets)
    counts = found["baseline"]["photographs"]
    return (
        f"Clean average of the BadNets against the baseline's, in points: {gaps}. Trained on {counts['training']} "
        f"photographs, measured on {counts['held_out']}."
    )


def cell(share: Values, paper: float | None = None) -> str:
    """A share as per cent with one decimal, and the paper's number in brackets where there is one."""
    return number(share["share"]) + ("" if paper is None else f" ({paper:.1f})")


def number(share: float | None) -> str:
    """A share in [0, 1] as per cent with one decimal and without the sign; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"


def percent(share: float | None) -> str:
    """A share in [0, 1] as per cent with one decimal; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def interval(share: Values) -> str:
    """The 95 % interval of a share in words."""
    low, high = share["interval_95"]
    return f"{100 * low:.1f} to {100 * high:.1f} %"
