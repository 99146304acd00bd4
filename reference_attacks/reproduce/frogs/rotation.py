"""How far the last layer's decision boundary turns in end-to-end training: the red values of Figure 2."""

from __future__ import annotations

from ..parts import Settings, Values


def end_to_end_rotation(settings: Settings) -> Values | None:
    """The angles of end-to-end trials below ``settings.work``, None where there are none.

    ``angles``: in degrees, after the last epoch, one for each trial. ``mean_angle_by_epoch``: after each epoch.
    """
    del settings
    return None
