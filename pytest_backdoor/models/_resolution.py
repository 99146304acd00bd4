"""The preprocessing that a scan uses, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ._preprocessing import Preprocessing

Origin = Literal["declared", "graph", "inferred", "assumed"]


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A preprocessing, and why it is the one.

    ``origin``: the user declared it; the model's file says so; the labelled clean samples show it; or it is the
    default, which nothing confirms. ``samples`` and ``accuracy``: how many labelled samples were classified under it,
    and which share of them correctly; None if none were. ``equally_good``: names of conventions of another meaning
    under which the model does as well. ``note``: what it was read from in the file, or why samples that were
    given could not show it; a sentence.
    """

    preprocessing: Preprocessing
    origin: Origin
    samples: int | None = None
    accuracy: float | None = None
    equally_good: tuple[str, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The report's ``preprocessing`` of a model, JSON values."""
        used = self.preprocessing
        return {
            "origin": self.origin,
            "layout": used.layout,
            "channel_order": used.channel_order,
            "input_range": [used.low, used.high],
            "mean": list(used.mean),
            "std": list(used.std),
            "samples": self.samples,
            "accuracy": None if self.accuracy is None else round(self.accuracy, 4),
            "equally_good": list(self.equally_good),
            "note": self.note,
        }


def as_settings(used: Preprocessing, declared: Preprocessing) -> str:
    """What to write into pyproject.toml to get ``used``, in words, beside what is ``declared`` by now."""
    parts = [f"input_range = {_list((used.low, used.high))}"]
    if any(used.mean):
        parts.append(f"mean = {_list(used.mean)}")
    if any(part != 1 for part in used.std):
        parts.append(f"std = {_list(used.std)}")
    if used.channel_order != declared.channel_order:
        parts.append(f'channel_order = "{used.channel_order}"')
    if used.layout != declared.layout:
        parts.append(f'layout = "{used.layout}"')
    removed = [
        name
        for name, is_left in (
            ("mean", any(declared.mean) and not any(used.mean)),
            ("std", any(part != 1 for part in declared.std) and all(part == 1 for part in used.std)),
        )
        if is_left
    ]
    text = ", ".join(parts)
    return f"{text}, without {' and '.join(removed)}" if removed else text


def _list(numbers: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{number:.6g}' for number in numbers)}]"
