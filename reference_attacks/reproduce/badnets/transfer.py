"""The transfer attack: Tables VI and VII, Figures 9 and 11 of BadNets (2019), §V-C.

Each has two halves: the detectors of Tables IV and V, and classifiers of cut-out signs, which alone are measured at
the reduced size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..parts import Part, Settings, Values
from . import transfer_text
from .transfer_plots import draw_activations


def measure_table_6(settings: Settings) -> Values:
    """What the honest network and the BadNet read in the second country, for "classifiers" and "detectors".

    Each has "honest" and "badnet" with ``classes``, the number of signs of each, ``networks``, their number, and the
    rightly read signs of each class by network and head: ``clean`` and ``backdoored``. Those of classifiers have
    ``first``, the accuracies in the first country, and ``kinds``, the same as above on single kinds of signs.
    ``sizes``: detectors with smaller stickers.
    """
    networks = _classifiers(settings)
    chosen = {"honest": _of_share(networks, 0), "badnet": _of_share(networks, _main_share())}
    results: Values = {
        "classifiers": {
            name: {
                **_together([network["second"][0] for network in found]),
                "first": [network["first"] for network in found],
                "kinds": _together([network["kinds"] for network in found]),
            }
            for name, found in chosen.items()
        }
    }
    if not settings.small:
        detectors = _detectors(settings)
        results["detectors"] = {name: _together([found["second"][0]]) for name, found in detectors.items()}
        results["photographs"] = detectors["badnet"]["photographs"]
        results["sizes"] = _sizes(settings)
    return results


def measure_table_7(settings: Settings) -> Values:
    """The same of BadNets at every strength; classifiers by the share of poisoned copies, one entry for each."""
    networks = [network for network in _classifiers(settings) if network["share"]]
    shares = sorted({network["share"] for network in networks}, reverse=True)
    results: Values = {"classifiers": [{"share": share, **_series(_of_share(networks, share))} for share in shares]}
    if not settings.small:
        results["detectors"] = _series([_detectors(settings)["badnet"]])
    return results


def measure_figure(settings: Settings, *, country: str) -> Values:
    """Average activations of the last convolutional layer, ``clean`` and ``backdoored``, and the ``dedicated`` neurons.

    ``country``: "first" for Figure 9, "second" for Figure 11. Of the first BadNet; ``found`` has, for each network, how
    many dedicated neurons there are: ``honest`` and ``badnet``.
    """
    networks = _classifiers(settings)
    groups = {"classifiers": {"honest": _of_share(networks, 0), "badnet": _of_share(networks, _main_share())}}
    if not settings.small:
        groups["detectors"] = {name: [found] for name, found in _detectors(settings).items()}
    return {
        kind: {
            **found["badnet"][0]["activations"][country],
            "dedicated": found["badnet"][0]["neurons"]["dedicated"],
            "found": {name: [len(each["neurons"]["dedicated"]) for each in chosen] for name, chosen in found.items()},
        }
        for kind, found in groups.items()
    }


def _classifiers(settings: Settings) -> list[Values]:
    from .transfer_classifiers import measured_classifiers

    return measured_classifiers(settings)


def _detectors(settings: Settings) -> dict[str, Values]:
    from .transfer_detectors import measured_detectors

    return measured_detectors(settings)


def _sizes(settings: Settings) -> dict[str, list[Values]]:
    from .transfer_detectors import measured_sizes

    return measured_sizes(settings)


def _main_share() -> float:
    from .transfer_classifiers import SHARE

    return SHARE


def _of_share(networks: Sequence[Values], share: float) -> list[Values]:
    return [network for network in networks if network["share"] == share]


def _together(entries: Sequence[Values]) -> Values:
    """The heads of several networks in one entry."""
    rows = {name: [row for entry in entries for row in entry[name]] for name in ("clean", "backdoored")}
    return {"networks": len(entries), "classes": entries[0]["classes"], **rows}


def _series(networks: Sequence[Values]) -> Values:
    """By strength; without dedicated neurons a network has nothing to strengthen and is left out above strength 1."""
    strengths = sorted({entry["strength"] for network in networks for entry in network["second"]})
    found = {
        strength: [entry for network in networks for entry in network["second"] if entry["strength"] == strength]
        for strength in strengths
    }
    return {
        "neurons": [len(network["neurons"]["dedicated"]) for network in networks],
        "strengths": [{"strength": strength, **_together(entries)} for strength, entries in found.items()],
    }


PARTS = {
    "figure-9": Part(
        title="Figure 9: the last convolutional layer of the random-target BadNet",
        measure=partial(measure_figure, country="first"),
        text=transfer_text.figure_9,
        draw=draw_activations,
    ),
    "table-6": Part(
        title="Table VI: transfer to another country's signs", measure=measure_table_6, text=transfer_text.table_6
    ),
    "figure-11": Part(
        title="Figure 11: the last convolutional layer after the transfer",
        measure=partial(measure_figure, country="second"),
        text=transfer_text.figure_11,
        draw=draw_activations,
    ),
    "table-7": Part(title="Table VII: the attack strengthened", measure=measure_table_7, text=transfer_text.table_7),
}
