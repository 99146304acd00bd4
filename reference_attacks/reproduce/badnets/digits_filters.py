"""Figure 5: the first layer of all-to-all BadNets and of their clean twins, and which filters carry the backdoor."""

from __future__ import annotations

from dataclasses import asdict

import torch

from ...badnet.building import DigitFolder
from ...badnet.filters import LEAST_SHARE_OF_SUCCESS, MOST_ADDED_ERROR, MOST_FILTERS, FilterExperiment
from ...badnet.many import DigitMember
from ...badnet.recipe import Backdoor
from ...data import ImageSet
from ...zoo.images import read_images
from ..parts import Settings, Values
from .digits_networks import TRIGGERS, all_to_all_members, baseline_members, built, scale_of

# Every fifth test image, 2,000 of them: each is looked at 64 times for one network.
EVERY = 5


def measure_figure_5(settings: Settings) -> Values:
    """Filters and their effects, of every repeat; ``twins`` are the clean networks that were re-trained."""
    scale = scale_of(settings)
    badnets = {name: all_to_all_members(scale, name, scale.shown_share, scale.repeats) for name in TRIGGERS}
    twins = baseline_members(scale, scale.repeats)
    folder = built(settings, [*twins, *(member for members in badnets.values() for member in members)])
    settings.say("silencing filters")
    test = read_images(folder.path).test
    shown = test.take(torch.arange(0, len(test), EVERY))
    return {
        "share": scale.shown_share,
        "images": len(shown),
        "least_share_of_success": LEAST_SHARE_OF_SUCCESS,
        "most_added_error": MOST_ADDED_ERROR,
        "most_filters": MOST_FILTERS,
        "weights": {
            name: _weights(folder, members[0])
            for name, members in (("baseline", twins), *((trigger, badnets[trigger]) for trigger in TRIGGERS))
        },
        "triggers": {
            trigger: {
                "badnets": [_effects(folder, member, member.backdoor, shown) for member in members],
                # The same trigger and attack, on networks that never saw either.
                "twins": [_effects(folder, twin, members[0].backdoor, shown) for twin in twins],
            }
            for trigger, members in badnets.items()
        },
    }


def _weights(folder: DigitFolder, member: DigitMember) -> list[list[list[float]]]:
    """The filters of the first layer, ``(F, h, w)``."""
    filters: list[list[list[float]]] = folder.network(member).conv1.weight.detach()[:, 0].tolist()
    return [[[round(weight, 4) for weight in row] for row in rows] for rows in filters]


def _effects(folder: DigitFolder, member: DigitMember, backdoor: Backdoor | None, images: ImageSet) -> Values:
    assert backdoor is not None
    experiment = FilterExperiment(folder.network(member), backdoor, images)
    found = experiment.backdoor_filters()
    return {
        **asdict(found),
        "filters": list(found.filters),
        "dedicated": found.dedicated,
        "each": {name: values.tolist() for name, values in vars(experiment.effects()).items()},
    }
