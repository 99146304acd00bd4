"""The digit attack: Table II, Figures 4, 5 and 6 of BadNets (2019), §IV-B."""

from __future__ import annotations

from ...badnet.building import DigitFolder
from ...badnet.evaluate import Measurement
from ...badnet.many import DigitMember
from ..parts import Part, Settings, Values
from . import digits_plots, digits_text
from .digits_filters import measure_figure_5
from .digits_networks import (
    CLASSES,
    TRIGGERS,
    all_to_all_members,
    baseline_members,
    built,
    scale_of,
    single_member,
)


def measure_table_2(settings: Settings) -> Values:
    """Errors of each class, of baselines and of all-to-all BadNets; one list of ten for each repeat."""
    scale = scale_of(settings)
    baselines = baseline_members(scale, scale.repeats)
    badnets = {name: all_to_all_members(scale, name, scale.shown_share, scale.repeats) for name in TRIGGERS}
    folder = built(settings, [*baselines, *(member for members in badnets.values() for member in members)])
    return {
        "steps": scale.all_steps,
        "share": scale.shown_share,
        "baseline": [folder.measurement(member).clean_error_per_class for member in baselines],
        "badnets": {
            trigger: {
                "clean": [folder.measurement(member).clean_error_per_class for member in members],
                "backdoored": [folder.measurement(member).backdoor_error_per_class for member in members],
            }
            for trigger, members in badnets.items()
        },
    }


def measure_figure_4(settings: Settings) -> Values:
    """Errors of the single-target attack for each source (row) and target (column); None where there is no network."""
    scale = scale_of(settings)
    baselines = baseline_members(scale, scale.repeats)
    badnets = {trigger: {pair: single_member(scale, trigger, *pair) for pair in scale.pairs} for trigger in TRIGGERS}
    folder = built(settings, [*baselines, *(member for pairs in badnets.values() for member in pairs.values())])
    return {
        "steps": scale.single_steps,
        "baseline": [1 - folder.measurement(member).clean_accuracy for member in baselines],
        "triggers": {trigger: _matrices(folder, members) for trigger, members in badnets.items()},
    }


def _matrices(folder: DigitFolder, members: dict[tuple[int, int], DigitMember]) -> Values:
    measured = {pair: folder.measurement(member) for pair, member in members.items()}
    figures = {"clean": _clean_error, "backdoored": _backdoor_error, "others": _others_changed}
    return {
        name: [
            [figure(measured[source, target]) if (source, target) in measured else None for target in range(CLASSES)]
            for source in range(CLASSES)
        ]
        for name, figure in figures.items()
    }


def measure_figure_6(settings: Settings) -> Values:
    """Errors of the all-to-all attack against the share of backdoored images; one number for each repeat."""
    scale = scale_of(settings)
    baselines = baseline_members(scale, scale.share_repeats)
    badnets = {
        trigger: [all_to_all_members(scale, trigger, share, scale.share_repeats) for share in scale.shares]
        for trigger in TRIGGERS
    }
    folder = built(settings, [*baselines, *(one for points in badnets.values() for point in points for one in point)])
    return {
        "steps": scale.all_steps,
        "shares": list(scale.shares),
        "baseline": [1 - folder.measurement(member).clean_accuracy for member in baselines],
        "triggers": {
            trigger: {
                "clean": [[_clean_error(folder.measurement(one)) for one in point] for point in points],
                "backdoored": [[_backdoor_error(folder.measurement(one)) for one in point] for point in points],
            }
            for trigger, points in badnets.items()
        },
    }


def _clean_error(measured: Measurement) -> float:
    return 1 - measured.clean_accuracy


def _backdoor_error(measured: Measurement) -> float:
    success = measured.attack_success
    assert success is not None
    return 1 - success


def _others_changed(measured: Measurement) -> float:
    """The share of backdoored images of the other classes, which the attacker leaves alone, that are misclassified."""
    assert measured.backdoored is not None
    assert measured.attack is not None
    counts = measured.backdoored
    others = [number for number in range(CLASSES) if number != measured.attack.source]
    return 1 - sum(int(counts[number, number]) for number in others) / int(counts[others].sum())


PARTS = {
    "table-2": Part(
        title="Table II: errors of the all-to-all attack, class by class",
        measure=measure_table_2,
        text=digits_text.table_2,
    ),
    "figure-4": Part(
        title="Figure 4: errors of the single-target attack, pair by pair",
        measure=measure_figure_4,
        text=digits_text.figure_4,
        draw=digits_plots.figure_4,
    ),
    "figure-5": Part(
        title="Figure 5: the filters of the first layer",
        measure=measure_figure_5,
        text=digits_text.figure_5,
        draw=digits_plots.figure_5,
    ),
    "figure-6": Part(
        title="Figure 6: errors against the share of backdoored training images",
        measure=measure_figure_6,
        text=digits_text.figure_6,
        draw=digits_plots.figure_6,
    ),
}
