"""Looking through an ONNX file: its form, every tensor in it, the versions and operators it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from pytest_backdoor.findings import Problem

from ._locations import LocationError, location_of
from ._onnx_operators import OperatorCheck
from ._onnx_tensors import FETCH_BOTH, IN_ANOTHER_FILE, LOCATION, TensorCheck, entries_of
from ._problems import REMEDIES, Problems, inspected
from ._wire import MalformedError, Reader, model_kind

DO_NOT_OPEN = "Do not open it; fetch the file again or export the model again."
# Who has an ONNX file mostly exported it, or could.
ONNX_REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        **REMEDIES,
        "malformed-file": "Fetch the file again or export the model again.",
        "inconsistent-tensors": DO_NOT_OPEN,
        "external-data-outside": DO_NOT_OPEN,
        "hash-mismatch": FETCH_BOTH,
        "custom-operators": "Such code is never loaded for a scan. Export the model with standard operators.",
        "unsupported-version": "Upgrade onnx and onnxruntime, or export the model for an older version.",
        "not-finite-weights": "Fetch or export the model again: such weights hide what the network computes.",
    }
)


def inspect_onnx(content: bytes, display: str, external: Mapping[str, bytes]) -> list[Problem]:
    """What is wrong with an ONNX model, found without building it.

    ``content``: the model file. ``external``: the content of the files of external data by location, as
    ``external_locations`` gives them; what to say of a file that is not there is left to whoever read the files.
    Raises nothing on account of the content. Time and memory are bounded by limits on the number of parts (``_wire``).
    """
    return inspected(partial(_look, external=external), content, display, ONNX_REMEDIES)


def _look(content: bytes, problems: Problems, external: Mapping[str, bytes]) -> None:
    import onnx

    types = {number: name for name, number in onnx.TensorProto.DataType.items()}
    reader = Reader(content)
    tensors = TensorCheck(reader, problems, types, external)
    operators = OperatorCheck(reader, problems)
    try:
        for message in reader.walk(model_kind()):
            if message.kind.name == "TensorProto":
                tensors.look(message)
            else:
                operators.look(message)
        tensors.finish()
        operators.finish()
    except MalformedError as error:
        problems.add("malformed-file", f"cannot be parsed as ONNX: {error}")


@dataclass(frozen=True, kw_only=True)
class Locations:
    """The files of external data that a model names and may name, sorted, and what is wrong with all other names."""

    locations: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def external_locations(content: bytes, display: str) -> Locations | None:
    """What any tensor of an ONNX model names as its external data; None if the model cannot be parsed.

    The problems are worded as those of ``inspect_onnx`` with the same ``display``.
    """
    names: set[str] = set()
    problems = Problems(display, ONNX_REMEDIES)
    reader = Reader(content)
    try:
        for message in reader.walk(model_kind()):
            if message.kind.name == "TensorProto" and message.integer(LOCATION) == IN_ANOTHER_FILE:
                try:
                    names.add(location_of(entries_of(message, reader)))
                except LocationError as error:
                    problems.add("external-data-outside", str(error))
    except MalformedError:
        return None
    return Locations(locations=tuple(sorted(names)), problems=tuple(problems.listed()))
