"""Finding infinities and what is not a number in the bytes of weights, chunk by chunk and without copying them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._dtypes import ElementType

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CHUNK_BYTES = 1 << 18


def all_finite(
    content: bytes | memoryview, start: int, stop: int, dtype: ElementType, *, big_endian: bool = False
) -> bool:
    """Whether every element of ``content[start:stop]`` is a finite number; a last part of an element is left out."""
    if dtype.finite is None or stop <= start:
        return True
    import numpy as np

    order = ">" if big_endian else "<"
    if isinstance(dtype.finite, str):
        kind = {"float32": "f4", "float64": "f8", "minus-zero": "u1"}[dtype.finite]
    else:
        kind = f"u{dtype.finite[0]}"
    element = np.dtype(order + kind)
    elements: Array = np.frombuffer(content, element, (stop - start) // element.itemsize, start)
    step = CHUNK_BYTES // element.itemsize
    chunks = (elements[first : first + step] for first in range(0, len(elements), step))
    if dtype.finite == "minus-zero":
        return not any((chunk == 0x80).any() for chunk in chunks)
    if isinstance(dtype.finite, str):
        return _finite_floats(chunks)
    _, mask, lowest = dtype.finite
    return not any((chunk & mask).max() >= lowest for chunk in chunks)


def _finite_floats(chunks: Iterable[Array]) -> bool:
    """The extremes of a chunk are not finite if any of its elements is not: both are passed on by min and max."""
    return all(math.isfinite(chunk.min()) and math.isfinite(chunk.max()) for chunk in chunks)


def merged(parts: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """``(start, stop, name)`` of ranges without overlaps, so that nothing is looked at twice."""
    joined: list[tuple[int, int, str]] = []
    for start, stop, name in sorted(parts):
        if joined and start < joined[-1][1]:
            before = joined[-1]
            joined[-1] = (before[0], max(before[1], stop), before[2])
        else:
            joined.append((start, stop, name))
    return joined
