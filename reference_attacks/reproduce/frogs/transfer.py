"""Transfer learning: Figures 1 and 2 of Poison Frogs (2018), §3.1."""

from __future__ import annotations

from pytest_backdoor.files import write_atomically

from ..parts import Part, Settings, Values
from . import transfer_plots, transfer_text
from .rotation import end_to_end_rotation
from .transfer_examples import draw_examples
from .transfer_experiments import folder_of, main_experiment, measured_all

PICTURE = "frogs-figure-1a.png"


def measure_figure_1(settings: Settings) -> Values:
    """What one poison each does to every target, in all experiments; a picture of some goes to ``settings.work``."""
    results = measured_all(settings)
    write_atomically(settings.work / PICTURE, draw_examples(folder_of(settings), main_experiment(settings)))
    settings.say(f"targets and their poisons are in {PICTURE} in the work folder")
    left_out = ("angles", "mean_angle_by_epoch")
    return {
        name: {key: value for key, value in found.items() if key not in left_out} for name, found in results.items()
    }


def measure_figure_2(settings: Settings) -> Values:
    """Rotations of the decision boundary: of all experiments of Figure 1, and end to end where trials are there."""
    kept = ("angles", "mean_angle_by_epoch", "restart_angle")
    results = {name: {key: found[key] for key in kept} for name, found in measured_all(settings).items()}
    return {"transfer": results, "end_to_end": end_to_end_rotation(settings)}


PARTS = {
    "figure-1": Part(
        title="Figure 1: one poison each in transfer learning",
        measure=measure_figure_1,
        text=transfer_text.figure_1,
        draw=transfer_plots.figure_1,
    ),
    "figure-2": Part(
        title="Figure 2: how far the decision boundary turns",
        measure=measure_figure_2,
        text=transfer_text.figure_2,
        draw=transfer_plots.figure_2,
    ),
}
