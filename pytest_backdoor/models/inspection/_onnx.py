"""Looking through an ONNX file: its form, every tensor in it, the versions and operators it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_backdoor.findings import Problem

from ._collect import FETCH, Collector
from ._locations import LocationError, location_of
from ._onnx_operators import OperatorCheck
from ._onnx_tensors import LOCATION, REMEDY, TensorCheck, entries_of
from ._wire import MalformedError, Reader, model_kind

MALFORMED = "malformed-file"


def inspect_onnx(content: bytes, display: str, external: Mapping[str, bytes]) -> list[Problem]:
    """What is wrong with an ONNX model, found without building it.

    ``content``: the model file. ``external``: the content of the files of external data by location, as
    ``external_locations`` gives them; what to say of a file that is not there is left to whoever read the files.
    Raises nothing on account of the content. Time and memory are bounded by limits on the number of parts (``_wire``).
    """
    found = Collector(display)
    try:
        _inspect(content, found, external)
    except MalformedError as error:
        found.add(MALFORMED, f"cannot be parsed as ONNX: {error}", FETCH)
    except Exception as error:  # fails closed, whatever a hostile file has found to break here
        found.add(MALFORMED, f"cannot be parsed as ONNX ({type(error).__name__})", FETCH)
    return found.problems


def _inspect(content: bytes, found: Collector, external: Mapping[str, bytes]) -> None:
    import onnx

    types = {number: name for name, number in onnx.TensorProto.DataType.items()}
    reader = Reader(content)
    tensors = TensorCheck(reader, found, types, external)
    operators = OperatorCheck(reader, found)
    for message in reader.walk(model_kind()):
        if message.kind.name == "TensorProto":
            tensors.look(message)
        else:
            operators.look(message)
    tensors.finish()
    operators.finish()


@dataclass(frozen=True, kw_only=True)
class Locations:
    """The files of external data that a model names and may name, sorted, and what is wrong with all other names."""

    locations: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def external_locations(content: bytes, display: str) -> Locations | None:
    """What any tensor of an ONNX model names as its external data; None if the model cannot be parsed.

    The problems are among those of ``inspect_onnx`` with the same ``display``.
    """
    names: set[str] = set()
    found = Collector(display)
    reader = Reader(content)
    try:
        for message in reader.walk(model_kind()):
            if message.kind.name == "TensorProto" and message.integer(LOCATION) == 1:
                try:
                    names.add(location_of(entries_of(message, reader)))
                except LocationError as error:
                    found.add("external-data-outside", str(error), REMEDY)
    except MalformedError:
        return None
    return Locations(locations=tuple(sorted(names)), problems=tuple(found.problems))
