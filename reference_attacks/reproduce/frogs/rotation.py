"""How far the last layer's decision boundary turns in end-to-end training: the red values of Figure 2."""

from __future__ import annotations

from ...poison_frogs.experiments import main_trials, outlier_trials
from ...poison_frogs.summaries import records_of, rotations
from ..parts import Settings, Values
from .end_to_end import folder_of


def end_to_end_rotation(settings: Settings) -> Values | None:
    """The angles of end-to-end trials with 50 poisons below ``settings.work``, None where there are none.

    ``angles``: in degrees, after the last epoch, one for each trial. ``mean_angle_by_epoch``: after each epoch. Nothing
    is trained: Figure 5 does that.
    """
    folder, scale = folder_of(settings)
    return rotations(records_of(folder, [*main_trials(scale), *outlier_trials(scale)]))
