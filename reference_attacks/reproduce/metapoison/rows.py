"""What all tables on MetaPoison have in common."""

from __future__ import annotations

from ..parts import Values
from ..tables import percent

COLUMNS = [
    "victims",
    "success (95 % interval)",
    "by pair",
    "confidence",
    "success with batch statistics",
    "validation accuracy",
]
MEANING = """\
Success: the share of targets that victims take for the wanted class after their last epoch, with batch normalisation in
evaluation mode; confidence: the mean probability of that class. Intervals are those of Clopper and Pearson as if all
victims were independent; by pair: the lowest and the highest share of a pair. With batch statistics: as the paper's
code measures, the target being part of a training batch whose means and variances are used."""


def row(first: list[str], found: Values, *last: str) -> list[str]:
    """A row of ``COLUMNS`` between others, of a summary."""
    low, high = found["interval"]
    shares = found["by_pair"]
    return [
        *first,
        str(found["victims"]),
        f"{percent(found['success'])} ({percent(low)} to {percent(high)})",
        "–" if len(shares) == 1 else f"{percent(min(shares))} to {percent(max(shares))}",
        percent(found["confidence"]),
        percent(found["batch_success"]),
        percent(found["validation_accuracy"]),
        *last,
    ]
