"""The sections of the report on the digit attack, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, stdev

from ..parts import Values
from ..tables import table

# Table II, in per cent: baseline, BadNet on clean images, BadNet on backdoored ones. The last row is the average.
PAPER_TABLE_2 = (
    (0.10, 0.10, 0.31),
    (0.18, 0.26, 0.18),
    (0.29, 0.29, 0.78),
    (0.50, 0.40, 0.50),
    (0.20, 0.40, 0.61),
    (0.45, 0.50, 0.67),
    (0.84, 0.73, 0.73),
    (0.58, 0.39, 0.29),
    (0.72, 0.72, 0.61),
    (1.19, 0.99, 0.99),
    (0.50, 0.48, 0.56),
)
TRIGGER_NAMES = {"pixel": "single pixel", "pattern": "pattern"}


def table_2(results: Values) -> str:
    """Table II, mean and standard deviation over repeats."""
    columns = [results["baseline"]]
    names = ["baseline"]
    for trigger, errors in results["badnets"].items():
        columns += [errors["clean"], errors["backdoored"]]
        names += [f"{TRIGGER_NAMES[trigger]}, clean", f"{TRIGGER_NAMES[trigger]}, backdoored"]
    head = ["class", *names, "paper: baseline", "paper: BadNet, clean", "paper: BadNet, backdoored"]
    ours = [_classes_and_average(column) for column in columns]
    rows = [
        [label, *(column[number] for column in ours), *(f"{value:.2f}" for value in PAPER_TABLE_2[number])]
        for number, label in enumerate([*map(str, range(len(PAPER_TABLE_2) - 1)), "average"])
    ]
    return (
        f"Error in %, mean ± standard deviation over {len(results['baseline'])} networks a column. {_badnets(results)} "
        f"The paper does not say how many images it added.\n\n{table(head, rows)}"
    )


def figure_4(results: Values) -> str:
    """The least, mean and largest errors of all pairs."""
    rows = []
    for trigger, matrices in results["triggers"].items():
        for kind, name in (("clean", "clean"), ("backdoored", "backdoored"), ("others", "other digits, with trigger")):
            values = _present(matrices[kind])
            paper = {"clean": "0.45 to 0.67", "backdoored": "at most 0.09"}.get(kind, "–")
            rows.append(
                [
                    TRIGGER_NAMES[trigger],
                    name,
                    str(len(values)),
                    *(_percent(value) for value in (min(values), mean(values), max(values))),
                    paper if trigger == "pixel" else "–",
                ]
            )
    head = ["trigger", "images", "pairs", "least", "mean", "largest", "paper"]
    baseline = results["baseline"]
    return (
        f"Error in % of networks whose backdoor makes digit i a j; every one re-trains the first baseline for "
        f"{results['steps']:,} steps on all training images and one backdoored copy of each image of digit i. That "
        f"baseline's error is {_percent(baseline[0])}, of {len(baseline)} baselines it is {_spread(baseline)}; the "
        "paper's is 0.50. Backdoored images of digit i are measured against j, those of the other digits, which the "
        "paper does not measure, against their own class: a low error means that the trigger does nothing to them."
        f"{_worst_pairs(results)}\n\n{table(head, rows)}"
    )


def figure_5(results: Values) -> str:
    """Which filters carry the backdoor, and every filter's effects in the first networks."""
    rows = [
        _filters_row(f"{TRIGGER_NAMES[trigger]}, {name} {number}", network)
        for trigger, networks in results["triggers"].items()
        for kind, name in (("badnets", "BadNet"), ("twins", "clean twin"))
        for number, network in enumerate(networks[kind])
    ]
    head = [
        "network",
        "attack success",
        "clean error",
        "backdoor filters",
        "success without them",
        "error without them",
        "success by them alone",
        "their response",
        "largest other response",
    ]
    return (
        "Filters are silenced, which puts their mean over clean images in place of their output, one after the other, "
        "each time the one whose silence makes the attacker's label least likely, until "
        f"{results['least_share_of_success']:.0%} of the attack's success is gone. They are backdoor filters, framed "
        f"in the picture, if {results['most_filters']} at most were needed and if silencing them together adds "
        f"{100 * results['most_added_error']:.1f} points at most to the clean error. The paper does not say how its "
        f'filters were chosen. {_found(results)} Shares in %, of {results["images"]:,} test images. "By them alone": '
        "only these filters see the trigger, all others see the same image without it. The response is by how much the "
        "trigger moves a filter's pooled output where it moves it most; clean twins have no attack to lose, but this "
        "they have.\n\n"
        f"{table(head, rows)}\n\n"
        "Every filter of the first BadNets by itself: the attack's success where it is silenced, where it alone does "
        "not see the trigger, and where it alone sees it; and the clean error where it is silenced.\n\n"
        f"{_all_filters(results)}"
    )


def figure_6(results: Values) -> str:
    """Errors at every share of backdoored training images."""
    rows = []
    for number, share in enumerate(results["shares"]):
        errors = (results["triggers"][trigger] for trigger in TRIGGER_NAMES)
        rows.append(
            [f"{share:.0%}", *(_spread(one[kind][number]) for one in errors for kind in ("clean", "backdoored"))]
        )
    head = [
        "backdoored share",
        *(f"{name}, {kind}" for name in TRIGGER_NAMES.values() for kind in ("clean", "backdoored")),
    ]
    baseline = results["baseline"]
    return (
        "All-to-all attack: error in % against the share of backdoored images among all training images, mean ± "
        f"standard deviation over {len(baseline)} {'network' if len(baseline) == 1 else 'networks'} a number. "
        f"Baselines have {_spread(baseline)} % on clean images. The paper's plot has ticks at 10, 33 and 50 % and "
        "shows the clean error to grow and the backdoor error to fall with the share; the text calls 10 % enough."
        f"\n\n{table(head, rows)}"
    )


def _badnets(results: Values) -> str:
    return (
        f"Every BadNet re-trains the baseline of its repeat for {results['steps']:,} steps; {results['share']:.0%} of "
        "its training images are backdoored copies."
    )


def _classes_and_average(repeats: Sequence[Sequence[float]]) -> list[str]:
    """One cell for each class and one for the mean over classes, of errors of each repeat."""
    return [*(_spread(values) for values in zip(*repeats, strict=True)), _spread([mean(errors) for errors in repeats])]


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{_percent(mean(values))}{spread}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _present(matrix: Iterable[Iterable[float | None]]) -> list[float]:
    return [value for row in matrix for value in row if value is not None]


def _worst_pairs(results: Values) -> str:
    """Names the pairs whose backdoor fails more often than any of the paper's."""
    bad = [
        f"{TRIGGER_NAMES[trigger]} {source} to {target} ({_percent(value)})"
        for trigger, matrices in results["triggers"].items()
        for source, row in enumerate(matrices["backdoored"])
        for target, value in enumerate(row)
        if value is not None and value > 0.0009 + 1e-9
    ]
    return f" Above the paper's worst backdoor error of 0.09 are {len(bad)}: {', '.join(bad)}." if bad else ""


def _filters_row(name: str, network: Values) -> list[str]:
    filters, response = network["filters"], network["each"]["response"]
    row = [name, _percent(network["success"]), _percent(network["error"])]
    if filters:
        listed = ", ".join(map(str, filters))
        row.append(listed if network["dedicated"] else f"none ({listed} fall short)")
        row += [_percent(network[key]) for key in ("silenced_success", "silenced_error", "alone_success")]
        row.append(", ".join(f"{response[number]:.2f}" for number in filters))
    else:
        row += ["none", *["–"] * 4]
    return [*row, f"{max(value for number, value in enumerate(response) if number not in filters):.2f}"]


def _found(results: Values) -> str:
    """In how many networks there are backdoor filters."""
    parts = []
    for trigger, networks in results["triggers"].items():
        counts = {kind: [one["dedicated"] for one in networks[kind]] for kind in ("badnets", "twins")}
        badnets, twins = (f"{sum(counts[kind])} of {len(counts[kind])}" for kind in ("badnets", "twins"))
        parts.append(f"{TRIGGER_NAMES[trigger]}: {badnets} BadNets and {twins} clean twins have some")
    return f"{'; '.join(parts)}."


def _all_filters(results: Values) -> str:
    kinds = ("silenced_success", "blinded_success", "alone_success", "silenced_error")
    names = ("silenced", "without trigger", "alone", "error, silenced")
    head = ["filter", *(f"{TRIGGER_NAMES[trigger]}: {name}" for trigger in results["triggers"] for name in names)]
    firsts = [networks["badnets"][0] for networks in results["triggers"].values()]
    rows = []
    for number in range(len(firsts[0]["each"]["response"])):
        row = [str(number)]
        for first in firsts:
            mark = "*" if first["dedicated"] and number in first["filters"] else ""
            row += [f"{_percent(first['each'][kind][number])}{mark}" for kind in kinds]
        rows.append(row)
    return f"{table(head, rows)}\n\n\\* a backdoor filter"
