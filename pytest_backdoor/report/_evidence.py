"""Reading evidence: whatever a check put there, of whichever type, a report must not fail on it."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

PNG_START = b"\x89PNG\r\n\x1a\n"
MOST_ENTRIES = 10_000


class Evidence:
    """The values of one finding's evidence, or of a part of it; a value of an unexpected type counts as missing."""

    def __init__(self, values: Any) -> None:
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def has(self, name: str) -> bool:
        """Whether there is a value of that name, null included."""
        return name in self._values

    def names(self) -> tuple[str, ...]:
        """The names of all values."""
        return tuple(str(name) for name in self._values)

    def text(self, name: str) -> str | None:
        """A text; None if it is empty."""
        value = self._values.get(name)
        return value if isinstance(value, str) and value else None

    def number(self, name: str) -> float | None:
        """A finite number."""
        return _number(self._values.get(name))

    def numbers(self, name: str) -> list[float | None]:
        """A list of numbers, None for each entry that is none."""
        return [_number(value) for value in self._list(name)]

    def texts(self, name: str) -> list[str]:
        """A list of texts; other entries as they would be printed."""
        return [value if isinstance(value, str) else str(value) for value in self._list(name)]

    def part(self, name: str) -> Evidence:
        """A mapping."""
        return Evidence(self._values.get(name))

    def parts(self, name: str) -> list[Evidence]:
        """A list of mappings."""
        return [Evidence(value) for value in self._list(name)]

    def picture(self, name: str) -> str | None:
        """The base64 text of a PNG file."""
        value = self._values.get(name)
        return value if isinstance(value, str) and is_png(value) else None

    def _list(self, name: str) -> Sequence[Any]:
        value = self._values.get(name)
        return value[:MOST_ENTRIES] if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def is_png(text: str) -> bool:
    """Whether it is the base64 form of something that starts as a PNG file does."""
    try:
        return base64.b64decode(text, validate=True).startswith(PNG_START)
    except (binascii.Error, ValueError):
        return False


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
