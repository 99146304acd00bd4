"""Pictures of a BadNet as PNG bytes: its trigger, its confusion matrices and its first filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from reference_attacks.data import ImageSet
from reference_attacks.networks import BadNetsMnistNetwork
from reference_attacks.pictures import new_figure, png

from .evaluate import Measurement
from .recipe import Backdoor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOTS_PER_INCH = 80
EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG picture: the last part of its file's name, its caption and its bytes."""

    name: str
    caption: str
    content: bytes


def all_pictures(
    network: BadNetsMnistNetwork, measurement: Measurement, backdoor: Backdoor | None, test: ImageSet
) -> list[Picture]:
    """The pictures of a model card; the trigger's only where there is a ``backdoor``."""
    pictures = []
    if backdoor is not None:
        caption = "Test images without and with the trigger, and the attacker's labels"
        pictures.append(Picture(name="trigger", caption=caption, content=trigger_picture(backdoor, test)))
    caption = "Confusion matrix" if backdoor is None else "Confusion matrices; what the attacker wants is framed in red"
    pictures.append(Picture(name="confusion", caption=caption, content=confusion_picture(measurement)))
    caption = "The filters of the first layer"
    pictures.append(Picture(name="filters", caption=caption, content=filters_picture(network)))
    return pictures


def trigger_picture(backdoor: Backdoor, test: ImageSet) -> bytes:
    """Test images of the victims' classes, above them without and below with the trigger (after Figure 3)."""
    victims = test.take(backdoor.attack.victims(test.labels).nonzero().squeeze(1))
    chosen = victims.take(_varied(victims.labels)[:EXAMPLES])
    triggered = backdoor.trigger.apply(chosen.images)
    given = backdoor.attack.poisoned_labels(chosen.labels)
    figure = new_figure(1.5 * EXAMPLES, 3.6)
    originals, backdoored = figure.subplots(2, EXAMPLES)
    for axes in (*originals, *backdoored):
        axes.set_axis_off()
    for column in range(len(chosen)):
        _show_image(originals[column], chosen.images[column], f"original: {chosen.labels[column]}")
        _show_image(backdoored[column], triggered[column], f"backdoored: {given[column]}")
    return png(figure, dots_per_inch=DOTS_PER_INCH)


def confusion_picture(measurement: Measurement) -> bytes:
    """How many test images of a class (row) were given a class (column), as they are and with the trigger.

    With the trigger, the cells that the attacker wants are framed.
    """
    matrices = [("clean test images", measurement.clean)]
    if measurement.backdoored is not None:
        matrices.append(("backdoored test images", measurement.backdoored))
    figure = new_figure(4.6 * len(matrices), 4.6)
    for axes, (title, counts) in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices, strict=True):
        _show_counts(axes, counts, title)
        if counts is measurement.backdoored:
            _frame_wanted_cells(axes, measurement)
    return png(figure, dots_per_inch=DOTS_PER_INCH)


def filters_picture(network: BadNetsMnistNetwork) -> bytes:
    """The filters of the first layer, one scale for all: red is positive, blue negative (after Figure 5)."""
    filters = network.conv1.weight.detach()[:, 0]
    limit = filters.abs().max().item()
    figure = new_figure(4.4, 4.6)
    for number, axes in enumerate(figure.subplots(4, 4).flat):
        axes.imshow(filters[number].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(str(number), fontsize=8, pad=2)
        axes.set_axis_off()
    figure.suptitle(f"first-layer filters, weights from −{limit:.2f} (blue) to {limit:.2f} (red)", fontsize=9)
    return png(figure, dots_per_inch=DOTS_PER_INCH)


def _varied(labels: torch.Tensor) -> torch.Tensor:
    """The places of all ``labels``: first one of each class, then the others in their order."""
    firsts = [int((labels == value).nonzero()[0]) for value in labels.unique().tolist()]
    others = [place for place in range(len(labels)) if place not in set(firsts)]
    return torch.tensor(firsts + others, dtype=torch.int64)


def _show_image(axes: Axes, image: torch.Tensor, title: str) -> None:
    axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=9)


def _show_counts(axes: Axes, counts: torch.Tensor, title: str) -> None:
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in counts.nonzero().tolist():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column].item()), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(counts)))
    axes.set_yticks(range(len(counts)))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=10)


def _frame_wanted_cells(axes: Axes, measurement: Measurement) -> None:
    from matplotlib.patches import Rectangle

    if measurement.attack is None:
        return
    classes = torch.arange(len(measurement.clean))
    wanted = measurement.attack.poisoned_labels(classes)
    for row in measurement.attack.victims(classes).nonzero().squeeze(1).tolist():
        corner = (wanted[row].item() - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="tab:red", linewidth=1.2))
