"""The element types of torch and safetensors: how large they are and which bit patterns are not finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class ElementType:
    """One type of element.

    ``bits``: of one element of a tensor. ``unit``: bytes of one element of its storage. ``finite``: how to find what is
    not finite: ``float32`` and ``float64`` by comparing floats, or ``(bytes, mask, lowest)``: an unsigned integer of so
    many bytes is not finite if its bits under ``mask`` are ``lowest`` or more; ``minus-zero``: that pattern alone is no
    number; None if there is nothing to find.
    """

    name: str
    bits: int
    unit: int
    finite: str | tuple[int, int, int] | None = None


HALF = (2, 0x7FFF, 0x7C00)
BFLOAT = (2, 0x7FFF, 0x7F80)


def _types() -> Mapping[str, ElementType]:
    bits = dict.fromkeys(("bool", "uint8", "int8", "qint8", "quint8", "bits8", "bits1x8", "bits2x4", "bits4x2"), 8)
    bits |= {f"{sign}int{width}": 8 for sign in ("", "u") for width in range(1, 8)}
    bits |= {"int16": 16, "uint16": 16, "bits16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}
    bits |= {"qint32": 32, "quint4x2": 4, "quint2x4": 2, "float4_e2m1fn_x2": 8}
    floats: dict[str, tuple[int, str | tuple[int, int, int]]] = {
        "float16": (16, HALF),
        "bfloat16": (16, BFLOAT),
        "complex32": (32, HALF),
        "bcomplex32": (32, BFLOAT),
        "float32": (32, "float32"),
        "complex64": (64, "float32"),
        "float64": (64, "float64"),
        "complex128": (128, "float64"),
        "float8_e5m2": (8, (1, 0x7F, 0x7C)),
        "float8_e4m3fn": (8, (1, 0x7F, 0x7F)),
        "float8_e8m0fnu": (8, (1, 0xFF, 0xFF)),
        "float8_e5m2fnuz": (8, "minus-zero"),
        "float8_e4m3fnuz": (8, "minus-zero"),
    }
    types = [ElementType(name=name, bits=size, unit=max(1, size // 8)) for name, size in bits.items()]
    types += [ElementType(name=name, bits=size, unit=size // 8, finite=how) for name, (size, how) in floats.items()]
    return MappingProxyType({one.name: one for one in types})


TYPES = _types()
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
# What safetensors calls them; types of less than a byte have no name in torch.
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
        "F4": ElementType(name="F4", bits=4, unit=1),
        "F6_E2M3": ElementType(name="F6_E2M3", bits=6, unit=1),
        "F6_E3M2": ElementType(name="F6_E3M2", bits=6, unit=1),
    }
)
