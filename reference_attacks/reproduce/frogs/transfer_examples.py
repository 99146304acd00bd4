"""Figure 1a of Poison Frogs (2018): targets, and the poisons that make networks take them for something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...pictures import new_figure, png
from ...poison_frogs.transfer_folder import Experiment, TransferFolder

if TYPE_CHECKING:
    import torch

COLUMNS = 6
ROWS = ("target", "base", "poison")


def draw_examples(folder: TransferFolder, experiment: Experiment) -> bytes:
    """Some targets of both classes with their bases and poisons, as PNG, from what is in ``folder``."""
    scene = folder.scene(experiment)
    poisons, _ = folder.poisons(experiment, scene)
    images, pairs = scene.test.images, scene.pairs
    chosen = [*range(COLUMNS // 2), *range(len(pairs) - COLUMNS // 2, len(pairs))]
    rows = (images[pairs.targets[chosen]], images[pairs.bases[chosen]], poisons.images[chosen])
    return _draw(rows)


def _draw(rows: tuple[torch.Tensor, ...]) -> bytes:
    figure = new_figure(1.3 * COLUMNS, 1.4 * len(rows))
    panels = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for name, line, images in zip(ROWS, panels, rows, strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    return png(figure)
