"""Finding infinities and what is not a number in the bytes of weights, chunk by chunk and without copying them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ._dtypes import ElementType
from ._problems import Problems, shown

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CHUNK_BYTES = 1 << 18  # at a time: what is computed stays within a processor's cache


def not_finite(data: memoryview, dtype: ElementType, *, big_endian: bool = False) -> bool:
    """Whether the elements ``data`` of a tensor hold NaN or infinity that weights should not.

    A single infinite number (a bound) and a tensor of zeros and -infinity alone (a mask of attention) are constants
    that honest exporters write; they do not count. Types without such values give False; a last part of an element is
    left out.
    """
    special = dtype.special
    if special is None or len(data) < special.width:
        return False
    import numpy as np

    kind = f"{'>' if big_endian else '<'}u{special.width}"
    bits: Array = np.frombuffer(data, kind, len(data) // special.width)
    if not any(((chunk & special.mask) == special.pattern).any() for chunk in _chunks(bits)):
        return False
    return special.infinity is None or not _is_constant(bits, special.infinity)


def judge_finite(
    data: memoryview, dtype: ElementType, name: str, problems: Problems, *, big_endian: bool = False
) -> None:
    """Add that the tensor ``name`` is ``not_finite``."""
    if not_finite(data, dtype, big_endian=big_endian):
        problems.add("not-finite-weights", f"holds weights that are infinite or no numbers: {shown(name)}")


def _is_constant(bits: Array, infinity: int) -> bool:
    """Whether elements, not all of them finite, are what exporters write on purpose; ``infinity``: its bits."""
    sign = 1 << (8 * bits.itemsize - 1)
    if len(bits) == 1:
        return int(bits[0]) & ~sign == infinity
    return all((((chunk & (sign - 1)) == 0) | (chunk == (infinity | sign))).all() for chunk in _chunks(bits))


def _chunks(values: Array) -> Iterator[Array]:
    step = CHUNK_BYTES // values.itemsize
    return (values[start : start + step] for start in range(0, len(values), step))


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
