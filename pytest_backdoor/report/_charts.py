"""What a finding's charts show: a score among those of clean models, and how far each class stands out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..findings import Finding
from ._evidence import Evidence

MOST_BARS = 24
ROOM = 0.04


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A stretch of numbers that a chart is wide; positions on it are in percent."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float | None]) -> Scale:
        """One that holds all values, with a little room at both ends."""
        known = [value for value in values if value is not None]
        low, high = min(known, default=0.0), max(known, default=1.0)
        # Of numbers as far apart as floats go the difference is infinite.
        low, high = max(low, -1e300), min(max(high, -1e300), 1e300)
        room = ROOM * (high - low) or max(1.0, abs(high) * ROOM)
        return cls(low=low - room, high=high + room)

    def at(self, value: float) -> float:
        """Where ``value`` lies, from 0 to 100."""
        return round(min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low))), 2)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The scores of clean models that a score is compared with, as far as they are known.

    ``lowest`` to ``highest``: all of them; ``low`` to ``high``: from 5 % to 95 %; ``median``. ``threshold``: a score
    above it is suspicious. ``significance``: the p-value at or below which it is.
    """

    models: int | None
    description: str
    lowest: float
    low: float
    median: float
    high: float
    highest: float
    threshold: float | None
    significance: float | None


def reference_of(finding: Finding) -> Reference | None:
    """What the finding's score was compared with; None without a score or where it was compared with nothing."""
    part = Evidence(finding.evidence).part("reference")
    return None if finding.score is None else _reference(part, part)


def _reference(part: Evidence, whole: Evidence) -> Reference | None:
    quantiles = part.part("quantiles")
    values = [quantiles.number(level) for level in ("0", "0.05", "0.5", "0.95", "1")]
    lowest, low, median, high, highest = values
    if lowest is None or low is None or median is None or high is None or highest is None:
        return None
    models = whole.number("models")
    return Reference(
        models=None if models is None else int(models),
        description=whole.text("description") or "",
        lowest=lowest,
        low=low,
        median=median,
        high=high,
        highest=highest,
        threshold=part.number("threshold"),
        significance=whole.number("significance"),
    )


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One class: ``start`` and ``width`` of its bar in percent; ``stands_out``: it lies above the threshold."""

    name: str
    value: float
    start: float
    width: float
    stands_out: bool


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """A bar for each class, in percent of the width: ``band``: the reference band's start and width; ``limit``: the
    threshold.

    ``left_out``: how many classes with smaller values have no bar.
    """

    meaning: str
    bars: tuple[Bar, ...]
    zero: float
    band: tuple[float, float] | None
    limit: float | None
    reference: Reference | None
    left_out: int


# By the name of the list in the evidence: what its numbers are, and where the classes' numbers stand.
LISTS = (
    ("standing_out_by_class", "How far the best trigger of each class stands out"),
    ("deviations_by_class", "How far the largest margin of each class stands out"),
)


def bar_chart(finding: Finding) -> BarChart | None:
    """How far each class stands out, in the unit of the score; None where the evidence does not say."""
    evidence = Evidence(finding.evidence)
    for name, meaning in LISTS:
        values = evidence.numbers(name)
        if any(value is not None for value in values):
            return _bar_chart(meaning, values, _names(evidence, len(values)), _component(evidence))
    return None


def _names(evidence: Evidence, count: int) -> list[str]:
    named = evidence.texts("names_by_class") or evidence.texts("classes_searched")
    return [*named[:count], *(str(number) for number in range(len(named), count))]


def _component(evidence: Evidence) -> Reference | None:
    whole = evidence.part("reference")
    return _reference(whole.part("components").part(evidence.text("component") or ""), whole)


def _bar_chart(meaning: str, values: list[float | None], names: list[str], reference: Reference | None) -> BarChart:
    known = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
    shown = known
    if len(known) > MOST_BARS:
        shown = sorted(known, key=lambda pair: -pair[1])[:MOST_BARS]
    ends = [] if reference is None else [reference.low, reference.high, reference.threshold]
    scale = Scale.over([0.0, *ends, *(value for _, value in shown)])
    threshold = None if reference is None else reference.threshold
    zero = scale.at(0.0)
    return BarChart(
        meaning=meaning,
        bars=tuple(_bar(name, value, scale, threshold) for name, value in shown),
        zero=zero,
        band=None if reference is None else _stretch(scale, reference.low, reference.high),
        limit=None if threshold is None else scale.at(threshold),
        reference=reference,
        left_out=len(known) - len(shown),
    )


def _bar(name: str, value: float, scale: Scale, threshold: float | None) -> Bar:
    start, width = _stretch(scale, min(0.0, value), max(0.0, value))
    return Bar(name=name, value=value, start=start, width=width, stands_out=threshold is not None and value > threshold)


def _stretch(scale: Scale, low: float, high: float) -> tuple[float, float]:
    start = scale.at(low)
    return start, round(max(0.0, scale.at(high) - start), 2)


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """A score among those of clean models: where each lies, in percent; ``middle``: from 5 % to 95 % of them."""

    score: float
    reference: Reference
    at: float
    whole: tuple[float, float]
    middle: tuple[float, float]
    median: float
    limit: float | None


def gauge(finding: Finding) -> Gauge | None:
    """None where there is no score, or nothing that it was compared with."""
    reference = reference_of(finding)
    if reference is None or finding.score is None:
        return None
    scale = Scale.over([reference.lowest, reference.highest, reference.threshold, finding.score])
    return Gauge(
        score=finding.score,
        reference=reference,
        at=scale.at(finding.score),
        whole=_stretch(scale, reference.lowest, reference.highest),
        middle=_stretch(scale, reference.low, reference.high),
        median=scale.at(reference.median),
        limit=None if reference.threshold is None else scale.at(reference.threshold),
    )
