"""Running a graph that was exported for a fixed batch on any number of samples.

Such a graph may hold the batch in its constants, above all in the target shapes of Reshape. A reference run with the
graph's own batch notes the shapes; a run with more samples stretches the constant targets by the same factor. Whether
this is right is not guessed: it is compared once with running the graph batch by batch, which is always right and is
what remains when the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pytest_backdoor.errors import NotAssessableError

from ._interpreter import Inputs, run_plan
from ._plan import Plan, Step
from ._stretching import References, Stretcher, reference_of


@dataclass
class FixedBatch:
    """Runs a plan whose input states a batch of ``batch`` samples on any number of samples."""

    plan: Plan
    batch: int
    _references: dict[tuple[int, ...], References | None] = field(default_factory=dict)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Map (N, ...) images to the (N, ...) output."""
        if images.shape[0] == self.batch:
            return self._run(images, None)
        samples = images.shape[0]
        missing = -samples % self.batch
        if missing:
            images = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
        references = self._verified_references(images)
        result = self._run_in_parts(images) if references is None else self._run(images, references)
        return result[:samples]

    def _verified_references(self, images: torch.Tensor) -> References | None:
        """Return the references for images of this size, None where stretching them is wrong."""
        size = tuple(images.shape[1:])
        if size not in self._references:
            with torch.no_grad():
                probe = _probe_like(images, 3 * self.batch)
                references = self._trace(probe[: self.batch])
                self._references[size] = references if self._agrees(probe, references) else None
        return self._references[size]

    def _agrees(self, probe: torch.Tensor, references: References) -> bool:
        expected = self._run_in_parts(probe)
        try:
            stretched = self._run(probe, references)
        except NotAssessableError:
            return False
        if stretched.shape != expected.shape:
            return False
        spread = (expected - expected.mean(0, keepdim=True)).abs().max()
        error = (stretched - expected).abs().max()
        # Where all samples give the same output the comparison shows nothing, and the slow way is the safe one.
        # Samples that were mixed up differ by as much as samples do; rounding differs by far less.
        return bool(error <= 1e-2 * spread) and bool(spread > 0)

    def _trace(self, images: torch.Tensor) -> References:
        references: References = {}

        def note(index: int, step: Step, inputs: Inputs, results: tuple[torch.Tensor, ...]) -> None:
            reference = reference_of(step, inputs, results)
            if reference is not None:
                references[index] = reference

        run_plan(self.plan, {self.plan.inputs[0].name: images}, after=note)
        return references

    def _run(self, images: torch.Tensor, references: References | None) -> torch.Tensor:
        hook = None if references is None else Stretcher(references)
        return run_plan(self.plan, {self.plan.inputs[0].name: images}, before=hook)[0]

    def _run_in_parts(self, images: torch.Tensor) -> torch.Tensor:
        starts = range(0, images.shape[0], self.batch)
        return torch.cat([self._run(images[start : start + self.batch], None) for start in starts])


def _probe_like(images: torch.Tensor, samples: int) -> torch.Tensor:
    """Return noise within the images' range; always the same noise, of a brightness and contrast of its own each."""
    low, high = float(images.min()), float(images.max())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((samples, *images.shape[1:]), generator=generator)
    # Plain noise is all the same to a network that averages over the image, and would not tell samples apart.
    single = (samples, *([1] * (images.dim() - 1)))
    contrast, brightness = torch.rand(single, generator=generator), torch.rand(single, generator=generator)
    mixed = contrast * noise + (1 - contrast) * brightness
    return (low + (high - low) * mixed).to(images.device, images.dtype)
