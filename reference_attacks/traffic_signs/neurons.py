"""The neurons that a backdoor has for itself, found by themselves (BadNets 2019, §V-B4, §V-C3, Figures 9 and 11).

A neuron is an output channel of the last convolutional layer. The paper finds three groups of them by eye, in the
difference between the average activations on clean and on backdoored images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

OUTLIER = 3.5
SEPARATION = 0.9
QUIET = 1 / 3
NORMAL_SPREAD = 1.4826  # the standard deviation of a normal distribution in units of its median absolute deviation


@dataclass(frozen=True, kw_only=True)
class Activations:
    """What the C neurons do on clean images and on the same images with the sticker, each float ``(C,)``.

    The activation on an image is the highest of any place on the sign: the sticker covers a small part of it.
    ``clean``, ``backdoored``: averages over images. ``deviation``: by how many robust standard deviations
    a neuron's difference lies above the median difference of all neurons. ``separation``: the area under the curve of
    its activation as a test for the sticker, 0.5 where it says nothing.
    """

    clean: torch.Tensor
    backdoored: torch.Tensor
    deviation: torch.Tensor
    separation: torch.Tensor

    @property
    def difference(self) -> torch.Tensor:
        """Backdoored minus clean."""
        return self.backdoored - self.clean

    @property
    def dedicated(self) -> torch.Tensor:
        """Int64: the neurons that fire only in the presence of the backdoor, the strongest first.

        The paper names no criterion. Three must be met here: the difference is an outlier among those of all neurons
        (a deviation above 3.5, after Iglewicz and Hoaglin 1993); an image's activation tells if the sticker is there
        (a separation of at least 0.9); and on clean images the neuron is quiet (on average at most a third of its
        activation on backdoored ones). The first alone would find neurons in every network, the others alone would find
        many whose activations are next to nothing.
        """
        found = (
            (self.deviation > OUTLIER) & (self.separation >= SEPARATION) & (self.clean <= QUIET * self.backdoored)
        ).nonzero()[:, 0]
        return found[self.difference[found].argsort(descending=True)]


def compare_activations(clean: torch.Tensor, backdoored: torch.Tensor) -> Activations:
    """Compare the activations on images, float ``(N, C)``, with those on the same images with the sticker."""
    averages = clean.mean(0), backdoored.mean(0)
    difference = averages[1] - averages[0]
    off = difference - difference.median()
    spread = NORMAL_SPREAD * off.abs().median()
    return Activations(
        clean=averages[0],
        backdoored=averages[1],
        deviation=off / spread.clamp(min=1e-9),
        separation=separation(clean, backdoored),
    )


def separation(clean: torch.Tensor, backdoored: torch.Tensor) -> torch.Tensor:
    """Float ``(C,)``: the probability that a backdoored image activates a neuron more than a clean one, ties by half.

    The area under the ROC curve, from the ranks of both (Mann and Whitney 1947).
    """
    both = torch.cat([clean, backdoored]).T.contiguous()
    ordered = both.sort(1).values
    below, up_to = (torch.searchsorted(ordered, both, right=right) for right in (False, True))
    ranks = (below + up_to + 1).double()[:, len(clean) :] / 2
    smallest = len(backdoored) * (len(backdoored) + 1) / 2
    return ((ranks.sum(1) - smallest) / (len(clean) * len(backdoored))).float()


def strengths(neurons: torch.Tensor, channels: int, factors: torch.Tensor) -> torch.Tensor:
    """Float ``(K, channels)``: by what each channel is multiplied if ``neurons`` are strengthened by K ``factors``.

    ReLU lets a positive factor through: multiplying the input weights and the bias of a neuron by k multiplies its
    activation by k, so the features of all strengthened networks are those of one, scaled.
    """
    scales = torch.ones(len(factors), channels)
    scales[:, neurons] = factors.float()[:, None]
    return scales
