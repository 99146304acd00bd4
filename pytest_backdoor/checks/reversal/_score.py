"""From margins to one number for each family: how far does a class stand out from the others and from clean models?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ...calibration import ClassStatistics

# Of more classes some are nominated, others on each model, so that they cannot be compared with clean models' ones.
MOST_TARGETS = 64
TARGET_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class FamilyScore:
    """The score of one family, and where it was attained.

    ``value``: the highest entry of ``table``, float ``(slots, K + 1)``. ``slot`` and ``arm``: where that is; arm K is
    the target-agnostic one. Where it is the highest and a target stands out half as far, they are that target's: a
    trigger with a target also makes images leave their class.
    """

    value: float
    slot: int
    arm: int
    table: np.ndarray[Any, Any]


def contrasts(margins: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Each target's margin above the median target's in the same slot, float ``(..., slots, K + 1)``, for such margins.

    Some networks and some places are easier than others for every target alike, which says nothing about a backdoor.
    The last, target-agnostic column stays as it is.
    """
    targeted = margins[..., :-1]
    centred = targeted - np.median(targeted, axis=-1, keepdims=True)
    return np.concatenate([centred, margins[..., -1:]], axis=-1)


def family_score(
    margins: np.ndarray[Any, Any], statistics: ClassStatistics | None, *, easiest: int | None = None
) -> FamilyScore:
    """The score of ``margins``, float ``(slots, K + 1)``.

    With ``statistics`` of clean models of the same task, arrays of that shape, each contrast counts by how many
    standard deviations it lies above theirs. Without them the contrasts themselves are compared and the agnostic arm,
    which has nothing to be compared with, is left out, as is the class ``easiest``, which anything is turned into by
    nature.
    """
    table = contrasts(margins.astype(np.float64))
    if statistics is None:
        table[:, -1 if easiest is None else [easiest, -1]] = -np.inf
    else:
        table = statistics.deviations(table)
    value = float(table.max())
    named = table[:, :-1] if float(table[:, :-1].max()) >= TARGET_SHARE * value else table
    slot, arm = (int(index) for index in np.unravel_index(int(named.argmax()), named.shape))
    return FamilyScore(value=value, slot=slot, arm=arm, table=table)


def fit_statistics(margins: np.ndarray[Any, Any]) -> ClassStatistics:
    """The statistics of clean models' contrasts, ``(slots, K + 1)``, from margins, float ``(N, slots, K + 1)``."""
    from ...calibration import class_statistics

    return class_statistics(contrasts(margins.astype(np.float64)))


def held_out_scores(margins: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Float ``(N,)``: the score of each of N clean models by the others' statistics; margins as ``fit_statistics``."""
    from ... import calibration

    return calibration.held_out_scores(
        contrasts(margins.astype(np.float64)), lambda own, statistics: float(statistics.deviations(own).max())
    )
