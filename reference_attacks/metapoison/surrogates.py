"""The surrogate networks of Algorithm 1: at staggered epochs, trained on clean batches, started afresh at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..data import ImageSet
from ..zoo.seeds import derived_generator, derived_seed
from .settings import CraftingPlan
from .stacks import Networks, Tensors, stacked
from .unrolling import Batch, batch_losses, leaves_of, scaled

MakeNetwork = Callable[[int], nn.Module]


def packed_order(
    labels: torch.Tensor, poisoned: torch.Tensor, batch: int, generator: torch.Generator, places: torch.Generator
) -> torch.Tensor:
    """Int64 ``(N,)``: a random order whose batches hold every class in its share, and poisons in as few as that allows.

    ``labels``: int64 ``(N,)``. ``poisoned``: bool ``(N,)``. ``places`` draws where in the epoch the batches are, alike
    for all surrogates that are given generators of the same seed. Images that would not fill a batch are the last ones,
    and no poisons as long as there are enough others of their class.
    """
    keys = torch.rand(len(labels), generator=generator) - poisoned.double()
    positions = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero()[:, 0]
        ranked = members[keys[members].argsort()]
        positions[ranked] = (torch.arange(len(ranked)) + 0.5).double() / len(ranked)
    order = (positions + 1e-9 * torch.rand(len(labels), generator=generator)).argsort()
    whole = len(labels) // batch * batch
    batches = order[:whole].view(-1, batch)
    return torch.cat([batches[torch.randperm(len(batches), generator=places)].flatten(), order[whole:]])


class CleanBatches:
    """The batches of one epoch of G surrogates, each in an order of its own.

    ``clean``: the training set, on the device that computes. ``orders``: int64 ``(G, N)`` on the CPU. Images that do
    not fill a batch sit the epoch out.
    """

    def __init__(self, clean: ImageSet, orders: torch.Tensor, batch: int) -> None:
        self.chosen = orders[:, : orders.shape[1] // batch * batch].unflatten(1, (-1, batch)).transpose(0, 1)
        self._on_device = self.chosen.to(clean.images.device)
        self._clean = clean

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> Batch:
        """Batch ``number``; after the last one the first one follows."""
        chosen = self._on_device[number % len(self)]
        return Batch(images=self._clean.images[chosen].float().div_(255), labels=self._clean.labels[chosen])


class Surrogates:
    """Those of the M surrogates that one process computes.

    ``poisoned``: bool ``(N,)`` on the CPU, which images of ``clean`` are. ``numbers``: which surrogates, ascending.
    ``make``: a network of the plan's architecture from a seed. Everything random
    depends on the seed, the surrogate's number and the craft step alone, so that neither an interruption nor the
    number of processes changes it. Surrogate m starts in epoch ⌊mT/M⌋, trained on the clean images up to there.
    """

    def __init__(
        self,
        networks: Networks,
        make: MakeNetwork,
        clean: ImageSet,
        poisoned: torch.Tensor,
        plan: CraftingPlan,
        numbers: Sequence[int],
        seed: int,
    ) -> None:
        self.networks, self.numbers = networks, list(numbers)
        self._labels, self._poisoned = clean.labels.cpu(), poisoned
        self._make, self._clean, self._plan, self._seed = make, clean, plan, seed
        self._first_epochs = [number * plan.epochs // plan.surrogates for number in self.numbers]
        self.stack = stacked([self._fresh(number, 0) for number in self.numbers], clean.images.device)

    def stagger(self, chunks: Sequence[slice]) -> None:
        """Train every surrogate up to the epoch that it starts with."""
        for step in range(-max(self._first_epochs), 0):
            for chunk in chunks:
                # Later numbers start in later epochs, so those that train already are the last ones.
                waiting = sum(first < -step for first in self._first_epochs[chunk])
                part = slice(chunk.start + waiting, chunk.stop)
                if part.start < part.stop:
                    batches, rates = self.epoch(part, step)
                    for number in range(len(batches)):
                        self.train(part, batches[number], rates)

    def renew(self, step: int) -> None:
        """Start those afresh that have reached the sentinel epoch before craft step ``step``."""
        for place, number in enumerate(self.numbers):
            if step and self._epoch_at(place, step) == 0:
                self.stack.put(place, self._fresh(number, step))

    def epoch(self, part: slice, step: int) -> tuple[CleanBatches, torch.Tensor]:
        """The batches of craft step ``step`` (before the first one: negative), and the rates of SGD, float ``(G,)``."""
        places = range(part.start, part.stop)
        orders = [self._order(self.numbers[place], step) for place in places]
        rates = [self._plan.learning_rate_at(self._epoch_at(place, step)) for place in places]
        like = next(iter(self.stack.weights.values()))
        return CleanBatches(self._clean, torch.stack(orders), self._plan.batch), like.new_tensor(rates)

    def train(self, part: slice, batch: Batch, rates: torch.Tensor) -> None:
        """One step of SGD on a clean batch, in place."""
        stack = self.stack.part(part)
        leaves = leaves_of(stack.weights)
        loss = batch_losses(self.networks.training(leaves, stack.buffers, batch.images), batch.labels).sum()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        with torch.no_grad():
            for weights, gradient in zip(stack.weights.values(), gradients, strict=True):
                weights.sub_(scaled(gradient, rates))

    def state(self) -> Tensors:
        """All weights and buffers, by name."""
        return {**self.stack.weights, **self.stack.buffers}

    def restore(self, everything: Tensors) -> None:
        """Take one's own of what ``state`` returned of all M surrogates."""
        for name, value in self.state().items():
            value.copy_(everything[name][self.numbers])

    def _order(self, number: int, step: int) -> torch.Tensor:
        generator = derived_generator(self._seed, f"metapoison/order/{number}/{step}")
        if not self._plan.packed:
            return torch.randperm(len(self._labels), generator=generator)
        places = derived_generator(self._seed, f"metapoison/places/{step}")
        return packed_order(self._labels, self._poisoned, self._plan.batch, generator, places)

    def _epoch_at(self, place: int, step: int) -> int:
        return (self._first_epochs[place] + step) % self._plan.epochs

    def _fresh(self, number: int, step: int) -> nn.Module:
        return self._make(derived_seed(self._seed, f"metapoison/weights/{number}/{step}"))
