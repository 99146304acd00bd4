"""Conformal p-values: how often would a clean model score as high?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..findings import Outcome

if TYPE_CHECKING:
    import numpy as np


NORMAL_90 = 1.2815515655446004


@dataclass(frozen=True, kw_only=True)
class ReferenceScores:
    """Scores of clean models that no detector was fitted on.

    ``scores``: float ``(n,)``, higher is more suspicious. ``description``: which models, in words.
    """

    scores: np.ndarray[Any, Any]
    description: str

    @cached_property
    def median(self) -> float:
        """Of the scores."""
        import numpy as np

        return float(np.median(self.scores))

    @cached_property
    def spread(self) -> float:
        """The standard deviation of a normal distribution whose 90 % quantile lies as far above the median.

        By the upper half of the scores, as only high ones are suspicious, and not by the highest, which are few.
        """
        import numpy as np

        above = (float(np.quantile(self.scores, 0.9)) - self.median) / NORMAL_90
        return max(above, 1e-9 * max(1.0, abs(self.median)))

    @cached_property
    def quantiles(self) -> dict[str, float]:
        """The scores at five levels, for reports."""
        import numpy as np

        levels = (0.0, 0.05, 0.5, 0.95, 1.0)
        values = np.quantile(self.scores, levels)
        return {f"{level:g}": round(float(value), 6) for level, value in zip(levels, values, strict=True)}

    def threshold(self, significance: float) -> float | None:
        """The highest score that is not suspicious at ``significance``; None if there are too few scores for it."""
        import numpy as np

        # p <= significance says that at most this many clean scores are as high, those of (1 + n) apart from its own.
        allowed = math.floor(significance * (1 + len(self.scores)) * (1 + 1e-12)) - 1
        if allowed < 0:
            return None
        return float(np.sort(self.scores)[::-1][allowed]) if allowed < len(self.scores) else -math.inf


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a score means. ``suspicious``, ``p_value`` and ``score`` are None where there is nothing to judge by.

    ``score``: what was compared with ``reference``: the one score, or the highest standardised one of several.
    ``by_component``: the references of each score by itself.
    """

    outcome: Outcome
    explanation: str
    remedy: str = ""
    suspicious: bool | None = None
    p_value: float | None = None
    score: float | None = None
    significance: float
    reference: ReferenceScores | None = None
    by_component: Mapping[str, ReferenceScores] = field(default_factory=dict)

    def evidence(self) -> dict[str, Any] | None:
        """The reference as JSON values: how many clean models, their quantiles, the thresholds on p and on the score.

        ``components``: the quantiles of each score by itself, and what its threshold would be in its own unit.
        """
        if self.reference is None:
            return None
        return {
            "description": self.reference.description,
            "models": len(self.reference.scores),
            "significance": self.significance,
            "quantiles": dict(self.reference.quantiles),
            "threshold": _rounded(self.reference.threshold(self.significance)),
            "components": {
                name: {"quantiles": dict(own.quantiles), "threshold": self._threshold_of(own)}
                for name, own in self.by_component.items()
            },
        }

    def _threshold_of(self, own: ReferenceScores) -> float | None:
        assert self.reference is not None
        threshold = self.reference.threshold(self.significance)
        if threshold is None or self.reference is own:
            return _rounded(threshold)
        return _rounded(threshold * own.spread + own.median)


def _rounded(value: float | None) -> float | None:
    return round(value, 6) if value is not None and math.isfinite(value) else None


def conformal_p_value(score: float, clean_scores: np.ndarray[Any, Any]) -> float:
    """(1 + #{clean >= score}) / (1 + n), in (0, 1].

    If a clean model is exchangeable with the n reference models, p <= a happens with probability at most a (Bates et
    al., "Testing for outliers with conformal p-values", 2023). Raises ValueError if a number is not finite.
    """
    import numpy as np

    if not math.isfinite(score) or not np.isfinite(clean_scores).all():
        raise ValueError("A score is not a finite number.")
    return (1 + int(np.count_nonzero(clean_scores >= score))) / (1 + len(clean_scores))


def judge(score: float, reference: ReferenceScores | None, significance: float) -> Judgement:
    """Whether one ``score`` is higher than a clean model's would be, at the given significance.

    See ``judge_jointly``.
    """
    references = {} if reference is None else {"score": reference}
    return judge_jointly({"score": score}, references, significance)


def judge_jointly(
    components: Mapping[str, float],
    references: Mapping[str, ReferenceScores],
    significance: float,
    *,
    planned: Sequence[str] = (),
) -> Judgement:
    """Whether the highest of several scores is higher than clean models' would be, at the given significance.

    ``components``: a check's scores by name. ``planned``: the names of all scores that the scan asks for, those of
    other checks included. Scores of different kinds are compared by how many standard deviations they lie above the
    median of their ``references``, the scores of the same clean models for each name. The p-value is the share of
    clean models whose highest score of all planned ones is as high (single-step maxT, Westfall and Young 1993):
    however many checks there are, a clean model is failed by any of them at most as often as ``significance`` says,
    and n reference models suffice for 1 / (1 + n) where Bonferroni's correction would need that many for each check.

    Fails closed: without a reference, or with one too small for the significance, the outcome is not_assessed. Raises
    ValueError if a score is not a finite number or the references are not of the same models.
    """
    known = [name for name in components if name in references]
    if not known:
        return Judgement(
            outcome=Outcome.NOT_ASSESSED,
            explanation="There are no reference scores of clean models for this task, so the score cannot be judged.",
            remedy="Build a detector pack with python -m reference_attacks and name it with --backdoor-pack.",
            significance=significance,
        )
    compared = [name for name in references if name in components or name in planned]
    if len(compared) == 1:
        own = references[known[0]]
        return replace(_judged(components[known[0]], own, significance), by_component={known[0]: own})
    score = max(standardised(components[name], references[name]) for name in known)
    highest = _highest([references[name] for name in compared])
    description = references[known[0]].description
    judged = _judged(score, ReferenceScores(scores=highest, description=description), significance)
    return replace(judged, by_component={name: references[name] for name in known})


def standardised(score: float, reference: ReferenceScores) -> float:
    """How many standard deviations ``score`` lies above the median of ``reference``; see ``ReferenceScores.spread``."""
    return (score - reference.median) / reference.spread


def _highest(references: Sequence[ReferenceScores]) -> np.ndarray[Any, Any]:
    """Each model's highest standardised score, float ``(n,)``."""
    import numpy as np

    if len({len(reference.scores) for reference in references}) > 1:
        raise ValueError("The reference scores are not of the same models.")
    parts = [(reference.scores - reference.median) / reference.spread for reference in references]
    highest: np.ndarray[Any, Any] = np.max(parts, axis=0)
    return highest


def _judged(score: float, reference: ReferenceScores, significance: float) -> Judgement:
    p_value = conformal_p_value(score, reference.scores)
    count = len(reference.scores)
    if 1 / (1 + count) > significance:
        return Judgement(
            outcome=Outcome.NOT_ASSESSED,
            explanation=(
                f"{count} clean reference models cannot support a false-positive rate of {significance:.2g}: the "
                f"smallest p-value that they allow is {1 / (1 + count):.2g}."
            ),
            remedy=(
                f"Use a detector pack with at least {math.ceil(1 / significance) - 1} clean reference models, or "
                "raise the fpr."
            ),
            p_value=p_value,
            score=score,
            significance=significance,
            reference=reference,
        )
    suspicious = p_value <= significance
    above = round(p_value * (1 + count)) - 1
    return Judgement(
        outcome=Outcome.FAILED if suspicious else Outcome.PASSED,
        explanation=(
            f"{above} of {count} clean reference models score as high (p = {p_value:.2g}, limit {significance:.2g})."
        ),
        suspicious=suspicious,
        p_value=p_value,
        score=score,
        significance=significance,
        reference=reference,
    )
