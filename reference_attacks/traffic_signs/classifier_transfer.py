"""A classifier of the first country's signs becomes one of the second's: does its backdoor live on? (BadNets, §V-C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ..networks.families import VggNetwork
from ..zoo.seeds import derived_generator
from ..zoo.work import EVALUATION_BATCH
from .classifiers import classes_of, last_features, sticker_overlay
from .countries import Country, grouped
from .evaluation import share_of
from .heads import HeadPlan, Heads, train_heads
from .neurons import OUTLIER, Activations, compare_activations, strengths

STRENGTHS = (1, 10, 20, 30, 50, 70, 100)
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TransferPlan:
    """What the user of the network does. ``seeds``: how often, each time with other initial weights and batches."""

    heads: HeadPlan
    strengths: tuple[int, ...] = STRENGTHS
    seeds: int = 3


@dataclass(frozen=True, kw_only=True)
class _Features:
    """The last convolutional layer's features of a country: of training images, and of test images both ways."""

    train: torch.Tensor
    clean: torch.Tensor
    backdoored: torch.Tensor


def measure_transfer(
    network: VggNetwork, countries: tuple[Country, Country], plan: TransferPlan, *, seed: int
) -> Values:
    """Retrain the fully connected layers of ``network`` for the second country, at every strength, and test them.

    Returns JSON values. ``first``: accuracy in the first country. ``neurons``: what the attacker finds in its own
    training images. ``second``: for each strength the accuracies of all seeds' heads on the four groups of signs;
    ``kinds``: the same on the single kinds, at strength 1. ``activations``: averages over test images, for Figures 9
    and 11. Without dedicated neurons there is nothing to strengthen, and strength 1 stays alone.
    """
    first, second = countries
    found = find_neurons(network, first)
    features = _features_of(network, second)
    chosen = plan.strengths if len(found.dedicated) else (1,)
    factors = strengths(found.dedicated, len(found.clean), torch.tensor(chosen))
    return {
        "first": _first_country(network, first),
        "neurons": neuron_values(found),
        "second": _retrained(features, grouped(second), factors, chosen, plan, seed),
        "kinds": _retrained(features, second, factors[:1], (1,), plan, seed)[0],
        "activations": {
            "first": _averages(network, first),
            "second": {name: _per_channel(getattr(features, name)) for name in ("clean", "backdoored")},
        },
    }


def find_neurons(network: VggNetwork, country: Country) -> Activations:
    """The last convolutional layer's neurons, compared on the attacker's training images without and with sticker."""
    images = country.train.images
    clean, backdoored = (last_features(network, images, overlay).amax((2, 3)) for overlay in (None, sticker_overlay()))
    return compare_activations(clean, backdoored)


def neuron_values(found: Activations) -> Values:
    """What was found about the neurons, as JSON values."""
    return {
        "dedicated": found.dedicated.tolist(),
        "outliers": int((found.deviation > OUTLIER).sum()),
        "deviation": rounded(found.deviation),
        "separation": rounded(found.separation),
    }


def retrain(
    features: torch.Tensor,
    labels: torch.Tensor,
    heads: Heads,
    factors: torch.Tensor,
    plan: HeadPlan,
    generators: list[torch.Generator],
) -> None:
    """Train heads, copy k on features ``(N, C, h, w)`` whose channels are multiplied by ``factors[k]``.

    ``factors``: float ``(K, C)``. All copies of a seed see the same batches.
    """
    scales = factors[:, :, None, None]

    def losses(_: int) -> torch.Tensor:
        chosen = torch.stack([torch.randint(len(labels), (plan.batch_size,), generator=each) for each in generators])
        inputs = (features[chosen] * scales[:, None, None]).flatten(3).flatten(0, 1)
        logits = heads(inputs)
        wanted = labels[chosen].repeat(heads.copies, 1)
        return cross_entropy(logits.transpose(1, 2), wanted, reduction="none").mean(1)

    train_heads(heads, plan, losses)


@torch.no_grad()
def predicted_by(heads: Heads, features: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Int64 ``(K, S, N)``: the classes that each seed's head gives, copy k to features multiplied by ``factors[k]``."""
    predicted = []
    for batch in features.split(EVALUATION_BATCH):
        scaled = (batch * factors[:, None, :, None, None]).flatten(2)
        logits = heads(scaled.repeat_interleave(heads.seeds, 0))
        predicted.append(logits.argmax(2).unflatten(0, (heads.copies, heads.seeds)))
    return torch.cat(predicted, 2)


def _retrained(
    features: _Features, country: Country, factors: torch.Tensor, chosen: tuple[int, ...], plan: TransferPlan, seed: int
) -> list[Values]:
    """One entry for each strength, with the counts of each seed's heads."""
    generators = [derived_generator(seed, f"heads {number}") for number in range(plan.seeds)]
    inputs = features.train[0].numel()
    heads = Heads((inputs, *plan.heads.hidden, len(country.classes)), copies=len(factors), generators=generators)
    retrain(features.train, country.train.labels, heads, factors, plan.heads, generators)
    labels = country.test.labels
    right = {name: predicted_by(heads, getattr(features, name), factors) == labels for name in ("clean", "backdoored")}
    totals = torch.bincount(labels, minlength=len(country.classes))
    return [
        {
            "strength": strength,
            "classes": dict(zip(country.classes, totals.tolist(), strict=True)),
            **{name: [_hits(row, labels, len(totals)) for row in rows[number]] for name, rows in right.items()},
        }
        for number, strength in enumerate(chosen)
    ]


def _hits(right: torch.Tensor, labels: torch.Tensor, classes: int) -> list[int]:
    """How many images of each class were classified rightly."""
    return torch.bincount(labels[right], minlength=classes).tolist()


def _first_country(network: VggNetwork, country: Country) -> Values:
    values = {}
    for name, overlay in (("clean", None), ("backdoored", sticker_overlay())):
        predicted = classes_of(network, last_features(network, country.test.images, overlay))
        values[name] = share_of(int((predicted == country.test.labels).sum()), len(predicted))
    return values


def _features_of(network: VggNetwork, country: Country) -> _Features:
    return _Features(
        train=last_features(network, country.train.images),
        clean=last_features(network, country.test.images),
        backdoored=last_features(network, country.test.images, sticker_overlay()),
    )


def _averages(network: VggNetwork, country: Country) -> Values:
    overlays = {"clean": None, "backdoored": sticker_overlay()}
    return {
        name: _per_channel(last_features(network, country.test.images, overlay)) for name, overlay in overlays.items()
    }


def _per_channel(features: torch.Tensor) -> list[float]:
    return rounded(features.mean((0, 2, 3)))


def rounded(values: torch.Tensor) -> list[float]:
    """The values as JSON holds them, four digits after the point."""
    return [round(value, 4) for value in values.tolist()]
