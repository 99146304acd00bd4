"""Finding numbers that are not finite in the raw bytes of a tensor, without copying it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CHUNK = 1 << 18  # elements at a time: what is computed stays within a processor's cache
# Of 8-bit floats: which bit patterns are not finite (ONNX, "Float stored in 8 bits").
EIGHT_BIT: dict[str, Callable[[Array], Array]] = {
    "FLOAT8E4M3FN": lambda bits: (bits & 0x7F) == 0x7F,
    "FLOAT8E4M3FNUZ": lambda bits: bits == 0x80,
    "FLOAT8E5M2": lambda bits: (bits & 0x7C) == 0x7C,
    "FLOAT8E5M2FNUZ": lambda bits: bits == 0x80,
    "FLOAT8E8M0": lambda bits: bits == 0xFF,
}
# All others: the integer type of their bits, the exponent that marks them, and their -infinity.
PATTERNS = {
    "FLOAT": ("<u4", 0x7F800000, 0xFF800000),
    "COMPLEX64": ("<u4", 0x7F800000, 0xFF800000),
    "DOUBLE": ("<u8", 0x7FF0000000000000, 0xFFF0000000000000),
    "COMPLEX128": ("<u8", 0x7FF0000000000000, 0xFFF0000000000000),
    "FLOAT16": ("<u2", 0x7C00, 0xFC00),
    "BFLOAT16": ("<u2", 0x7F80, 0xFF80),
}


def not_finite(data: memoryview, type_name: str) -> bool:
    """Whether the little-endian elements ``data`` of an ONNX type hold NaN or infinity that weights should not.

    A single infinite number and a tensor of zeros and -infinity alone (a mask of attention) are constants that honest
    exporters write; they do not count. Types without such values give False.
    """
    import numpy as np

    if type_name in EIGHT_BIT:
        return any(EIGHT_BIT[type_name](chunk).any() for chunk in _chunks(np.frombuffer(data, np.uint8)))
    if type_name not in PATTERNS:
        return False
    kind, exponent, minus_infinity = PATTERNS[type_name]
    bits = np.frombuffer(data, kind)
    if not any(((chunk & exponent) == exponent).any() for chunk in _chunks(bits)):
        return False
    if len(bits) == 1:
        return bool((bits & ((exponent & -exponent) - 1)).any())  # NaN: digits below the exponent
    return any(((chunk != minus_infinity) & (chunk != 0)).any() for chunk in _chunks(bits))


def unpacked(data: memoryview, width: int) -> memoryview:
    """The varints in ``data``, each below 2**16, as little-endian elements of ``width`` (1 or 2) bytes.

    Raises ValueError if one is larger.
    """
    import numpy as np

    stored = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(stored < 0x80)
    lengths = np.diff(ends, prepend=-1)
    if len(lengths) and lengths.max() > 3:
        raise ValueError("a number is too large")
    values = np.zeros(len(ends), np.uint32)
    for place in range(3):
        has = lengths > place
        first = ends[has] - lengths[has] + 1
        values[has] |= (stored[first + place].astype(np.uint32) & 0x7F) << (7 * place)
    if len(values) and values.max() >= 1 << (8 * width):
        raise ValueError("a number is too large")
    return memoryview(values.astype(f"<u{width}").tobytes())


def _chunks(values: Array) -> Iterator[Array]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
