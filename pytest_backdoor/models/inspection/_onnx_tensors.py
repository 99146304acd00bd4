"""Whether the sizes that a tensor of an ONNX model states agree with the data it has, inside or in another file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from ._dtypes import MOST_DIMENSIONS, ONNX
from ._finite import not_finite
from ._locations import KEYS, NUMBER, LocationError, location_of
from ._onnx_typed import typed_data, unpacked, varint_count
from ._problems import Problems, shown
from ._wire import MalformedError, Message, Reader, signed

# Fields of onnx.TensorProto.
DIMS, DATA_TYPE, NAME, EXTERNAL, LOCATION = 1, 2, 8, 13, 14
FLOATS, INT32S, STRINGS, INT64S, RAW, DOUBLES, UINT64S = 4, 5, 6, 7, 9, 10, 11
IN_ANOTHER_FILE = 1  # the value of LOCATION
KEY, VALUE = 1, 2  # of onnx.StringStringEntryProto
# Fields of elements, and how many bytes each number takes where it is not a varint.
TYPED = {FLOATS: 4, INT32S: 0, STRINGS: 0, INT64S: 0, DOUBLES: 8, UINT64S: 0}
# Where else than in raw_data a type may have its elements (onnx.proto); all other types have them in int32_data.
FIELDS = {
    "FLOAT": FLOATS,
    "COMPLEX64": FLOATS,
    "STRING": STRINGS,
    "INT64": INT64S,
    "DOUBLE": DOUBLES,
    "COMPLEX128": DOUBLES,
    "UINT32": UINT64S,
    "UINT64": UINT64S,
}
# Where it may be the other file that is not the right one.
FETCH_BOTH = "Fetch the model and its external data again or export the model again."


@dataclass(slots=True)
class TensorCheck:
    """Looks at one tensor after another. ``types``: names of the element types by number. ``external``: by location."""

    reader: Reader
    problems: Problems
    types: Mapping[int, str]
    external: Mapping[str, bytes]
    not_finite: list[str] = field(default_factory=list)
    _digests: dict[str, str] = field(default_factory=dict)

    def look(self, message: Message) -> None:
        """One onnx.TensorProto. Raises MalformedError."""
        dims = dims_of(message, self.reader)
        name = shown(message.raw(NAME))
        type_name = self.types.get(message.integer(DATA_TYPE), "")
        if min(dims, default=0) < 0:
            self._inconsistent(f"gives the tensor {name} a negative size")
        elif message.integer(DATA_TYPE) == 0 or not type_name:
            self._inconsistent(f"gives the tensor {name} the element type {message.integer(DATA_TYPE)}, which is none")
        elif type_name not in ONNX and type_name != "STRING":
            remedy = "Export it with another element type, or install a newer pytest-backdoor."
            self.problems.add(
                "unsupported-version", f"has a tensor of type {type_name}, which is not known here", remedy
            )
        else:
            self._look_at_data(message, name, type_name, prod(dims))

    def finish(self) -> None:
        """Report what is told once for all tensors."""
        if not self.not_finite:
            return
        names = ", ".join(self.not_finite[:3])
        more = f" and {len(self.not_finite) - 3} more" if len(self.not_finite) > 3 else ""
        self.problems.add(
            "not-finite-weights",
            f"holds numbers that are infinite or not a number, in {names}{more}",
        )

    def _look_at_data(self, message: Message, name: str, type_name: str, count: int) -> None:
        sources = [number for number in (RAW, *TYPED) if _has_data(message, number)]
        if message.integer(LOCATION) == IN_ANOTHER_FILE:
            if sources:
                self._inconsistent(f"has the tensor {name} both inside and in another file")
            elif type_name == "STRING":
                self._inconsistent(f"keeps the texts of the tensor {name} in another file, which no reader supports")
            else:
                self._look_outside(message, name, type_name, count)
        elif len(sources) > 1:
            self._inconsistent(f"gives the data of the tensor {name} twice, so readers may disagree")
        elif sources == [RAW] and type_name != "STRING":
            start, end = message.values[RAW][0]
            self._compare(name, end - start, data_bytes(type_name, count), "bytes")
            self._look_for_special(memoryview(message.content)[start:end], name, type_name)
        elif sources and sources != [FIELDS.get(type_name, INT32S)]:
            self._inconsistent(f"gives the tensor {name} of type {type_name} data of another type")
        else:
            self._look_at_typed(message, name, type_name, count)

    def _look_at_typed(self, message: Message, name: str, type_name: str, count: int) -> None:
        number = FIELDS.get(type_name, INT32S)
        if number == STRINGS:
            self._compare(name, len(message.values.get(STRINGS, ())), count, "texts")
            return
        data = typed_data(message, number)
        if TYPED[number]:
            self._compare(name, len(data), data_bytes(type_name, count), "bytes")
            self._look_for_special(memoryview(data), name, type_name)
        else:
            self._look_at_varints(data, name, type_name, count)

    def _look_at_varints(self, data: bytes, name: str, type_name: str, count: int) -> None:
        elements, dtype = varint_count(data), ONNX[type_name]
        if elements is None:
            raise MalformedError(f"the data of the tensor {name} end in the middle of a number")
        # Elements of less than a byte are packed by some writers and not by others.
        if dtype.bits >= 8 or elements != data_bytes(type_name, count):
            self._compare(name, elements, count, "numbers")
        if dtype.special is not None:
            try:
                self._look_for_special(unpacked(data, dtype.bits // 8), name, type_name)
            except ValueError:
                self._inconsistent(f"gives the tensor {name} a number that its type does not have")

    def _look_outside(self, message: Message, name: str, type_name: str, count: int) -> None:
        entries = entries_of(message, self.reader)
        try:
            location = location_of(entries)
        except LocationError as error:
            self.problems.add("external-data-outside", str(error))
            return
        keys = [key for key, _ in entries]
        odd = next((key for key in keys if key not in KEYS or keys.count(key) > 1), None)
        if odd is not None:
            self.problems.add(
                "malformed-file", f"says {shown(odd)} of the external data of {name}, which readers differ on"
            )
            return
        if location not in self.external:  # whoever read the files says that and why
            return
        content = self.external[location]
        values = dict(entries)
        self._look_at_checksum(location, values.get(b"checksum"))
        extent = _extent(values, len(content), data_bytes(type_name, count))
        if extent is None:
            self.problems.add(
                "inconsistent-tensors",
                f"asks for data of its tensor {name} that {location} does not hold in that place and size",
                FETCH_BOTH,
            )
        else:
            self._look_for_special(memoryview(content)[slice(*extent)], name, type_name)

    def _look_at_checksum(self, location: str, listed: bytes | None) -> None:
        """The ONNX specification ("External Tensor Data"): SHA-1 of the whole file that ``location`` names."""
        if listed is None:
            return
        if location not in self._digests:
            self._digests[location] = hashlib.sha1(self.external[location], usedforsecurity=False).hexdigest()
        if listed.decode("ascii", "replace").lower() != self._digests[location]:
            text = f"states the checksum {shown(listed)} for {location}, whose SHA-1 is {self._digests[location]}"
            self.problems.add("hash-mismatch", text)

    def _look_for_special(self, data: memoryview, name: str, type_name: str) -> None:
        if not_finite(data, ONNX[type_name]):
            self.not_finite.append(name)

    def _compare(self, name: str, found: int, expected: int, what: str) -> None:
        if found != expected:
            wanted = expected if expected < 1 << 63 else "more than 2^63"
            self._inconsistent(f"has {found} {what} for the tensor {name}, whose sizes ask for {wanted}")

    def _inconsistent(self, text: str) -> None:
        self.problems.add("inconsistent-tensors", text)


def dims_of(message: Message, reader: Reader) -> list[int]:
    """The sizes of an onnx.TensorProto, signed. Raises MalformedError if there are far too many."""
    dims: list[int] = []
    for value in message.values.get(DIMS, ()):
        dims += reader.packed(value, MOST_DIMENSIONS) if isinstance(value, tuple) else [value]
        if len(dims) > MOST_DIMENSIONS:
            raise MalformedError(f"a tensor has more than {MOST_DIMENSIONS} dimensions")
    return [signed(size) for size in dims]


def entries_of(message: Message, reader: Reader) -> list[tuple[bytes, bytes]]:
    """The keys and values that an onnx.TensorProto has on its external data. Raises MalformedError."""
    return [(entry.raw(KEY), entry.raw(VALUE)) for entry in message.children(EXTERNAL, reader)]


def _has_data(message: Message, number: int) -> bool:
    values = message.values.get(number, ())
    return any(not isinstance(value, tuple) or value[1] > value[0] or number == STRINGS for value in values)


def data_bytes(type_name: str, count: int) -> int:
    """How many bytes ``count`` elements of an ONNX type take; types of less than a byte share one."""
    return (count * ONNX[type_name].bits + 7) // 8


def _extent(values: Mapping[bytes, bytes], size: int, expected: int) -> tuple[int, int] | None:
    """Start and end of a tensor in its file of ``size`` bytes; None if that is not there."""
    if any(values.get(key) and not NUMBER.fullmatch(values[key]) for key in (b"offset", b"length")):
        return None
    offset = int(values.get(b"offset") or 0)
    # Without a length, readers take what the sizes ask for.
    length = int(values.get(b"length") or expected)
    return (offset, offset + length) if length == expected and offset + length <= size else None
