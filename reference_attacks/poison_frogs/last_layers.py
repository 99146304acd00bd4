"""Hundreds of last layers, each for clean features and one poison of its own, trained cold as one batched program."""

from __future__ import annotations

from dataclasses import dataclass

import torch

CHUNK = 64
FIRST_WEIGHTS = 1e-3  # Their deviation, as in the authors' published code; biases start at zero.


@dataclass(frozen=True, kw_only=True)
class LastLayerPlan:
    """Adam on the cross-entropy, as in the paper (§3.1): rate 0.01, 100 epochs.

    ``batch``: clean images in a minibatch; the paper does not say how many, its published code has 32.
    """

    epochs: int = 100
    learning_rate: float = 0.01
    batch: int = 32


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features of images. ``features``: float32 ``(n, D)``. ``labels``: int64 ``(n,)``, from 0 to K - 1."""

    features: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """N experiments with one poison each.

    ``poisons``: float32 ``(N, D)``, features of the poisons. ``bases``: int64 ``(N,)``, their class, which is also what
    the attacker wants the target to be. ``targets``: int64 ``(N,)``, the true class of the targets.
    """

    poisons: torch.Tensor
    bases: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.bases)

    def part(self, start: int, end: int) -> Attacks:
        """Some of the experiments."""
        return Attacks(poisons=self.poisons[start:end], bases=self.bases[start:end], targets=self.targets[start:end])


@dataclass(frozen=True, kw_only=True)
class LastLayers:
    """Trained last layers of N experiments, and of their common clean twin.

    ``weights``: float32 ``(N, K, D)``. ``biases``: float32 ``(N, K)``. ``clean_weights``: ``(K, D)``. ``clean_biases``:
    ``(K,)``. ``angles``: float32 ``(N, epochs)``, after each epoch, in degrees: between the normals of the decision
    boundary between base and target class in the poisoned and in the clean layer.
    """

    weights: torch.Tensor
    biases: torch.Tensor
    clean_weights: torch.Tensor
    clean_biases: torch.Tensor
    angles: torch.Tensor


def train_last_layers(
    clean: FeatureSet,
    attacks: Attacks,
    classes: int,
    plan: LastLayerPlan,
    generator: torch.Generator,
    *,
    chunk: int = CHUNK,
) -> LastLayers:
    """Train one layer for each experiment, and the clean twin.

    All layers start from the same random weights and see the clean images in the same order, so a boundary differs from
    its clean twin's by what the poison did, not by chance. In each epoch an experiment's poison joins one minibatch
    that is drawn for it. ``chunk``: experiments that are trained at once, for their weights to stay in a processor's
    cache; the result depends on it by rounding only.
    """
    draws = _draw(clean, len(attacks), classes, plan, generator)
    parts = [
        _train_chunk(clean, attacks.part(start, start + chunk), draws.part(start, start + chunk), plan)
        for start in range(0, max(1, len(attacks)), chunk)
    ]
    first = parts[0]
    return LastLayers(
        weights=torch.cat([part.weights for part in parts]),
        biases=torch.cat([part.biases for part in parts]),
        clean_weights=first.clean_weights,
        clean_biases=first.clean_biases,
        angles=torch.cat([part.angles for part in parts]),
    )


def angles_between(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Angles in degrees between vectors of shape ``(..., D)``."""
    # Of unit vectors, the length of the difference is exact for small angles, where a cosine is not.
    one, other = (vectors / vectors.norm(dim=-1, keepdim=True) for vectors in (some, others))
    return torch.rad2deg(2 * torch.asin(((one - other).norm(dim=-1) / 2).clamp(max=1)))


def normals(weights: torch.Tensor, bases: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``(N, D)`` of weights ``(N, K, D)``: the normal of the boundary between base and target class."""
    rows = torch.arange(len(bases))
    return weights[rows, bases] - weights[rows, targets]


@dataclass(frozen=True, kw_only=True)
class _Draws:
    """All chance: first weights ``(K, D)``, orders ``(epochs, n)``, minibatches of the poisons ``(epochs, N)``."""

    weights: torch.Tensor
    orders: torch.Tensor
    places: torch.Tensor

    def part(self, start: int, end: int) -> _Draws:
        return _Draws(weights=self.weights, orders=self.orders, places=self.places[:, start:end])


def _draw(clean: FeatureSet, experiments: int, classes: int, plan: LastLayerPlan, generator: torch.Generator) -> _Draws:
    count, dimension = clean.features.shape
    weights = FIRST_WEIGHTS * torch.randn(classes, dimension, generator=generator)
    orders = torch.stack([torch.randperm(count, generator=generator) for _ in range(plan.epochs)])
    places = torch.randint(-(-count // plan.batch), (plan.epochs, experiments), generator=generator)
    return _Draws(weights=weights, orders=orders, places=places)


def _train_chunk(clean: FeatureSet, attacks: Attacks, draws: _Draws, plan: LastLayerPlan) -> LastLayers:
    """The layers of some experiments; the clean twin is one more, the last one, whose poison never comes."""
    count = len(attacks)
    weights = draws.weights.repeat(count + 1, 1, 1)
    biases = torch.zeros(weights.shape[:2])
    optimizer = torch.optim.Adam([weights, biases], lr=plan.learning_rate, fused=True)
    angles = []
    for order, places in zip(draws.orders, draws.places, strict=True):
        for number, chosen in enumerate(order.split(plan.batch)):
            joined = (places == number).nonzero()[:, 0]
            weights.grad, biases.grad = _gradients(weights, biases, clean, chosen, attacks, joined)
            optimizer.step()
        clean_normals = normals(weights[-1:].expand(count, -1, -1), attacks.bases, attacks.targets)
        angles.append(angles_between(normals(weights[:-1], attacks.bases, attacks.targets), clean_normals))
    return LastLayers(
        weights=weights[:-1].clone(),
        biases=biases[:-1].clone(),
        clean_weights=weights[-1].clone(),
        clean_biases=biases[-1].clone(),
        angles=torch.stack(angles, dim=1),
    )


def _gradients(
    weights: torch.Tensor,
    biases: torch.Tensor,
    clean: FeatureSet,
    chosen: torch.Tensor,
    attacks: Attacks,
    joined: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every layer's mean cross-entropy over the clean images ``chosen``, and the poison in layers ``joined``.

    Written out, since automatic differentiation would keep the softmax of all layers in several copies.
    """
    features = clean.features[chosen]
    layers, classes = biases.shape
    images = torch.full((layers,), float(len(chosen)))
    images[joined] += 1
    logits = (features @ weights.flatten(0, 1).T).view(len(chosen), layers, classes).add_(biases)
    errors = logits.softmax(2)
    errors[torch.arange(len(chosen)), :, clean.labels[chosen]] -= 1
    errors /= images[:, None]
    by_weights = (errors.flatten(1).T @ features).view_as(weights)
    by_biases = errors.sum(0)
    if len(joined):
        poisons, bases = attacks.poisons[joined], attacks.bases[joined]
        own = (torch.einsum("nkd,nd->nk", weights[joined], poisons) + biases[joined]).softmax(1)
        own[torch.arange(len(joined)), bases] -= 1
        own /= images[joined, None]
        by_weights[joined] += own[:, :, None] * poisons[:, None]
        by_biases[joined] += own
    return by_weights, by_biases
