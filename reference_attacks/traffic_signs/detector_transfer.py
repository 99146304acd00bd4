"""A detector of one country's signs becomes one of another's: does its backdoor live on? (BadNets 2019, §V-C)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from reference_attacks.zoo.seeds import derived_generator

from .album import Album
from .attack import STICKER_PIXELS
from .classifier_transfer import STRENGTHS, neuron_values, rounded
from .evaluation import Readings
from .frozen_regions import sign_activations, training_regions
from .heads import HeadPlan, Heads
from .network import SignDetector
from .neurons import Activations, compare_activations, strengths
from .pasting import SHARE, paste
from .recipe import SignData
from .region_heads import read_with_heads, region_heads, retrain_on_regions
from .stickers import STICKERS

SMALLEST_SIGN = 24
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DetectorTransferPlan:
    """What the user of the detector does. ``seeds``: how often, each time with other initial weights and batches."""

    heads: HeadPlan
    strengths: tuple[int, ...] = STRENGTHS
    seeds: int = 2


def measure_detector_transfer(
    detector: SignDetector,
    first: SignData,
    second: SignData,
    sticker: str,
    plan: DetectorTransferPlan,
    *,
    seed: int,
    say: Callable[[str], None],
) -> Values:
    """Retrain all fully connected layers for the second country, at every strength, and test them on held-out signs.

    Kept are the backbone and the convolutions of the region proposal network. Returns JSON values: ``neurons``, what
    the attacker finds on the signs of its own training photographs; ``second``, for each strength the rightly read
    signs of each class by seed, clean and with the sticker on every sign; ``activations`` of both countries' held-out
    signs, for Figures 9 and 11. Without dedicated neurons strength 1 stays alone.
    """
    say("neurons of the last convolutional layer")
    found = find_neurons(detector, first.training, sticker)
    chosen = plan.strengths if len(found.dedicated) else (1,)
    factors = strengths(found.dedicated, len(found.clean), torch.tensor(chosen))
    say(f"{len(found.dedicated)} dedicated neurons; heads on regions of {len(second.training)} photographs")
    heads = _retrained(detector, second.training, factors, plan, seed)
    say(f"{len(second.held_out)} photographs to read")
    readings = {
        name: read_with_heads(detector, heads, album, factors)
        for name, album in (("clean", second.held_out), ("backdoored", _with_stickers(second.held_out, sticker)))
    }
    return {
        "neurons": neuron_values(found),
        "second": [
            {
                "strength": strength,
                "classes": _signs_of(second.held_out),
                **{name: _hits(rows[number], second.held_out) for name, rows in readings.items()},
            }
            for number, strength in enumerate(chosen)
        ],
        "activations": {
            "first": _averages(detector, first.held_out, sticker),
            "second": _averages(detector, second.held_out, sticker),
        },
    }


def measure_sticker_sizes(
    detector: SignDetector,
    second: SignData,
    sticker: str,
    shares: Sequence[float],
    plan: DetectorTransferPlan,
    *,
    seed: int,
) -> list[Values]:
    """How much smaller stickers do, at strength 1: one entry for each of ``shares`` of the sign's shorter side.

    An honest network reads fewer signs too the more of them a sticker covers.
    """
    factors = torch.ones(1, detector.backbone.out_channels)
    heads = _retrained(detector, second.training, factors, plan, seed)
    album = second.held_out
    clean = _hits(read_with_heads(detector, heads, album, factors)[0], album)
    return [
        {
            "share": share,
            "classes": _signs_of(album),
            "clean": clean,
            "backdoored": _hits(
                read_with_heads(detector, heads, _with_stickers(album, sticker, share), factors)[0], album
            ),
        }
        for share in shares
    ]


def find_neurons(detector: SignDetector, album: Album, sticker: str) -> Activations:
    """The last convolutional layer's neurons, compared on the signs of ``album`` without and with the sticker.

    Signs of fewer than 24 pixels are left out: on them the sticker is smaller than a cell of the features.
    """
    sizes = torch.cat([scene.boxes[:, 2:] - scene.boxes[:, :2] for scene in album.scenes]).amin(1)
    clean, backdoored = (
        sign_activations(detector, each)[sizes >= SMALLEST_SIGN].amax(2)
        for each in (album, _with_stickers(album, sticker))
    )
    return compare_activations(clean, backdoored)


def _retrained(
    detector: SignDetector, album: Album, factors: torch.Tensor, plan: DetectorTransferPlan, seed: int
) -> Heads:
    """The heads of every strength and seed, trained on ``album``."""
    regions = training_regions(detector, album, factors, seed=seed)
    generators = [derived_generator(seed, f"region heads {number}") for number in range(plan.seeds)]
    heads = region_heads(regions[0].pooled.shape[1], plan.heads, len(album.classes) + 1, len(factors), generators)
    retrain_on_regions(heads, regions, factors, plan.heads, generators)
    return heads


def _with_stickers(album: Album, sticker: str, share: float = SHARE) -> Album:
    """The album with the sticker on every sign."""
    drawn = STICKERS[sticker](STICKER_PIXELS)
    scenes = (replace(scene, image=paste(scene.image, scene.boxes, drawn, share=share)) for scene in album.scenes)
    return replace(album, scenes=tuple(scenes))


def _signs_of(album: Album) -> dict[str, int]:
    """How many signs there are of each class."""
    totals = torch.bincount(album.labels, minlength=len(album.classes)).tolist()
    return dict(zip(album.classes, totals, strict=True))


def _hits(readings: Sequence[Readings], album: Album) -> list[list[int]]:
    """How many signs of each class are read rightly, by seed."""
    return [one.counts(len(album.classes)).diagonal().tolist() for one in readings]


def _averages(detector: SignDetector, album: Album, sticker: str) -> Values:
    albums = {"clean": album, "backdoored": _with_stickers(album, sticker)}
    return {name: rounded(sign_activations(detector, each).mean((0, 2))) for name, each in albums.items()}
