"""The sections of the report on the end-to-end attack, the paper's numbers beside ours."""

from __future__ import annotations

from statistics import fmean

from ..parts import Values
from ..tables import percent, table

PAPER_IMAGES = 50_000
# What the paper says in words (§4.2.1, Figure 5); its curves give no further numbers.
MAIN = ("bird to dog, 30 %", "50")
PAPER_SUCCESS = {MAIN: "about 60 %", ("airplane to frog, 30 %", "50"): "53 %"}
PAPER_OUTLIERS = "70 %"


def figure_3(results: Values) -> str:
    """What became of the target and of the poisons."""
    rows = []
    for name, attack in results["attacks"].items():
        crafting = attack["crafting"]
        rows.append(
            [
                name,
                f"{crafting['distance_before']:.2f} to {crafting['distance']:.2f}",
                _margin(attack, "clean"),
                _margin(attack, "victim"),
                "yes" if attack["success"] else "no",
                f"{attack['rotation']['from_control'][-1]:.2f}°",
            ]
        )
    head = ["attack", "feature distance, by crafting", "margin before", "margin after", "success", "boundary turned by"]
    return (
        f"{_setting(results)} An airplane is to be read as a frog. Margin: the frog's logit less the airplane's, of "
        "the target. In the pictures each network has its own plane (first axis: from the centroid of airplanes to "
        "that of frogs; second: the part of the boundary's normal orthogonal to it), so that the drawn boundary is "
        "exact. Of 50 poisons, the first trial that succeeded is shown (or the last one tried). The paper: one poison "
        "is moved back among the frogs and the target stays; 50 watermarked ones take the target along.\n\n"
        f"{table(head, rows)}"
    )


def figure_5(results: Values) -> str:
    """Success by number of poisons, and outliers; then the few victims that were trained as the paper's were."""
    rows = [
        _row([label, poisons], summary, PAPER_SUCCESS.get((label, poisons), "–"))
        for label, points in results["curves"].items()
        for poisons, summary in points.items()
        if summary is not None
    ]
    text = _successes(results, rows, results["outliers"])
    schedule = results.get("paper_schedule")
    if schedule is None:
        return text
    first = schedule["random"]
    rows = [] if first is None else [_row([*MAIN], first, PAPER_SUCCESS[MAIN])]
    return (
        f"{text}\n\nA few victims with as many images as the paper's, and so as small a share of poisons, at its rate. "
        f"{_successes(schedule, rows, schedule['outliers'])}"
    )


def _successes(results: Values, rows: list[list[str]], outliers: Values | None) -> str:
    """The rows and that of outliers as a table, with how victims were trained and how far the boundary turned."""
    if outliers is not None:
        rows = [*rows, _row(["airplane to frog, 30 %, outliers", "50"], outliers, PAPER_OUTLIERS)]
    head = ["target to base, opacity", "poisons", *COLUMNS, "paper"]
    return f"{_setting(results)} {_meaning(results)}\n\n{table(head, rows)}\n\n{_rotations(results)}"


def ablation(results: Values) -> str:
    """Success without each ingredient."""
    rows = [_row([name], summary, "–") for name, summary in results["rows"].items() if summary is not None]
    return (
        f"{_setting(results)} {_meaning(results)} 50 poisons for each bird, opacity 30 %. Without optimisation: the "
        "watermarked bases as they are. Without diversity: 50 copies of the poison of one base. The paper says that "
        f"all three are required.\n\n{table(['left out', *COLUMNS, 'paper'], rows)}"
    )


COLUMNS = [
    "trials",
    "success (95 % interval)",
    "target keeps its class",
    "clean accuracy",
    "poisons learnt",
    "boundary turned by",
    "feature distance, by crafting",
]


def _row(first: list[str], summary: Values, paper: str) -> list[str]:
    low, high = summary["interval"]
    return [
        *first,
        str(summary["trials"]),
        f"{percent(summary['success'])} ({percent(low)} to {percent(high)})",
        str(summary["kept"]),
        percent(summary["clean_accuracy"]),
        percent(summary["poison_accuracy"]),
        f"{summary['rotation']:.2f}°",
        f"{summary['distance_before']:.2f} to {summary['distance']:.2f}",
        paper,
    ]


def _setting(results: Values) -> str:
    setting = results["setting"]
    victims, images = setting["victims"], setting["train_images"]
    size = (
        "as in the paper"
        if images >= PAPER_IMAGES
        else f"the paper has {PAPER_IMAGES:,}: here {PAPER_IMAGES / images:.3g} times as large a share is poisoned"
    )
    crafting = setting["crafting"]["iterations"]
    return (
        f"Victims are trained on from the clean network by Adam at {victims['learning_rate']:g} (the paper: 1.85e-05) "
        f"for {victims['epochs']} epochs with batches of {victims['batch']}, on {images:,} clean images ({size}) and "
        f"the poisons; {setting['precision']}. Poisons are crafted in at most {crafting:,} iterations (the paper: "
        "12,000)."
    )


def _meaning(results: Values) -> str:
    before = results["before"]
    return (
        "Success: the target is taken for the base class; no other class will do. Targets are test images that the "
        "clean network classifies correctly. Clean accuracy of the network that victims start from: "
        f"{percent(before['clean'])}, of one trained on like them without poisons: {percent(before['control'])}."
    )


def _rotations(results: Values) -> str:
    found = results["rotations"]
    if found is None:
        return ""
    return (
        f"The last layer's boundary between base and target class, {len(found['angles'])} victims with 50 poisons: "
        f"{fmean(found['angles']):.2f}° on average (at most {max(found['angles']):.2f}°) from that of the network "
        f"trained on without poisons, {fmean(found['angles_from_start']):.2f}° from that of the start. The paper: "
        "fractions of a degree."
    )


def _margin(attack: Values, network: str) -> str:
    logits, trial = attack["logits"][network], attack["trial"]
    return f"{logits[trial['base_class']] - logits[trial['target_class']]:+.2f}"
