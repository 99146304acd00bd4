"""The element types of torch, safetensors and ONNX: how large they are and which bit patterns are not finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MOST_DIMENSIONS = 64  # numpy's own limit; a product of more numbers than that means nothing


@dataclass(frozen=True, kw_only=True)
class Special:
    """The bit patterns of an element, or of one part of a complex element, that are no finite numbers.

    ``width``: bytes of it. ``mask`` and ``pattern``: it is not finite if its bits under ``mask`` are ``pattern``.
    ``infinity``: the bits of infinity; None if the type has none, only patterns that are no number.
    """

    width: int
    mask: int
    pattern: int
    infinity: int | None = None


@dataclass(frozen=True, kw_only=True)
class ElementType:
    """One type of element.

    ``bits``: of one element of a tensor. ``unit``: bytes of one element of its storage in torch. ``special``: what is
    not finite, None if all of it is.
    """

    name: str
    bits: int
    unit: int
    special: Special | None = None


def _with_infinity(width: int, exponent: int) -> Special:
    """Of types in which all bits of ``exponent`` mark what is not finite, and no others beside them infinity."""
    return Special(width=width, mask=exponent, pattern=exponent, infinity=exponent)


HALF = _with_infinity(2, 0x7C00)
BFLOAT = _with_infinity(2, 0x7F80)
SINGLE = _with_infinity(4, 0x7F800000)
DOUBLE = _with_infinity(8, 0x7FF0000000000000)
MINUS_ZERO = Special(width=1, mask=0xFF, pattern=0x80)
INTEGERS = (
    dict.fromkeys(("bool", "uint8", "int8", "qint8", "quint8", "bits8", "bits1x8", "bits2x4", "bits4x2"), 8)
    | {f"{sign}int{width}": 8 for sign in ("", "u") for width in range(1, 8)}
    | {"int16": 16, "uint16": 16, "bits16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}
    | {"qint32": 32, "quint4x2": 4, "quint2x4": 2, "float4_e2m1fn_x2": 8}
)
FLOATS = {
    "float16": (16, HALF),
    "bfloat16": (16, BFLOAT),
    "complex32": (32, HALF),
    "bcomplex32": (32, BFLOAT),
    "float32": (32, SINGLE),
    "complex64": (64, SINGLE),
    "float64": (64, DOUBLE),
    "complex128": (128, DOUBLE),
    "float8_e5m2": (8, _with_infinity(1, 0x7C)),
    "float8_e4m3fn": (8, Special(width=1, mask=0x7F, pattern=0x7F)),
    "float8_e8m0fnu": (8, Special(width=1, mask=0xFF, pattern=0xFF)),
    "float8_e5m2fnuz": (8, MINUS_ZERO),
    "float8_e4m3fnuz": (8, MINUS_ZERO),
}
# By torch's names.
TYPES: Mapping[str, ElementType] = MappingProxyType(
    {
        **{name: ElementType(name=name, bits=bits, unit=max(1, bits // 8)) for name, bits in INTEGERS.items()},
        **{
            name: ElementType(name=name, bits=bits, unit=bits // 8, special=special)
            for name, (bits, special) in FLOATS.items()
        },
    }
)


def _packed(name: str, bits: int) -> ElementType:
    """A type of less than a byte, which has no name in torch."""
    return ElementType(name=name, bits=bits, unit=1)


STORAGES: Mapping[str, str] = MappingProxyType(
    {
        "DoubleStorage": "float64",
        "FloatStorage": "float32",
        "HalfStorage": "float16",
        "LongStorage": "int64",
        "IntStorage": "int32",
        "ShortStorage": "int16",
        "CharStorage": "int8",
        "ByteStorage": "uint8",
        "BoolStorage": "bool",
        "BFloat16Storage": "bfloat16",
        "ComplexDoubleStorage": "complex128",
        "ComplexFloatStorage": "complex64",
        "QUInt8Storage": "quint8",
        "QInt8Storage": "qint8",
        "QInt32Storage": "qint32",
        "QUInt4x2Storage": "quint4x2",
        "QUInt2x4Storage": "quint2x4",
        "UntypedStorage": "uint8",
    }
)
# What safetensors calls them.
SAFETENSORS: Mapping[str, ElementType] = MappingProxyType(
    {
        "BOOL": TYPES["bool"],
        "U8": TYPES["uint8"],
        "I8": TYPES["int8"],
        "U16": TYPES["uint16"],
        "I16": TYPES["int16"],
        "U32": TYPES["uint32"],
        "I32": TYPES["int32"],
        "U64": TYPES["uint64"],
        "I64": TYPES["int64"],
        "F16": TYPES["float16"],
        "BF16": TYPES["bfloat16"],
        "F32": TYPES["float32"],
        "F64": TYPES["float64"],
        "C64": TYPES["complex64"],
        "F8_E5M2": TYPES["float8_e5m2"],
        "F8_E4M3": TYPES["float8_e4m3fn"],
        "F8_E8M0": TYPES["float8_e8m0fnu"],
        "F8_E5M2FNUZ": TYPES["float8_e5m2fnuz"],
        "F8_E4M3FNUZ": TYPES["float8_e4m3fnuz"],
        "F4": _packed("F4", 4),
        "F6_E2M3": _packed("F6_E2M3", 6),
        "F6_E3M2": _packed("F6_E3M2", 6),
    }
)
# What ONNX calls them (onnx.TensorProto.DataType), all but STRING.
ONNX: Mapping[str, ElementType] = MappingProxyType(
    {
        "BOOL": TYPES["bool"],
        "UINT2": _packed("UINT2", 2),
        "INT2": _packed("INT2", 2),
        "UINT4": _packed("UINT4", 4),
        "INT4": _packed("INT4", 4),
        "UINT8": TYPES["uint8"],
        "INT8": TYPES["int8"],
        "UINT16": TYPES["uint16"],
        "INT16": TYPES["int16"],
        "UINT32": TYPES["uint32"],
        "INT32": TYPES["int32"],
        "UINT64": TYPES["uint64"],
        "INT64": TYPES["int64"],
        "FLOAT4E2M1": _packed("FLOAT4E2M1", 4),
        "FLOAT8E5M2": TYPES["float8_e5m2"],
        "FLOAT8E4M3FN": TYPES["float8_e4m3fn"],
        "FLOAT8E8M0": TYPES["float8_e8m0fnu"],
        "FLOAT8E5M2FNUZ": TYPES["float8_e5m2fnuz"],
        "FLOAT8E4M3FNUZ": TYPES["float8_e4m3fnuz"],
        "FLOAT16": TYPES["float16"],
        "BFLOAT16": TYPES["bfloat16"],
        "FLOAT": TYPES["float32"],
        "DOUBLE": TYPES["float64"],
        "COMPLEX64": TYPES["complex64"],
        "COMPLEX128": TYPES["complex128"],
    }
)
