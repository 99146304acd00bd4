"""What weights hold that is not finite is found; bounds and masks that are infinite on purpose are not."""

from __future__ import annotations

import io

import numpy as np
import pytest

from pytest_backdoor.models.inspection._dtypes import FLOATS, ONNX, SAFETENSORS, TYPES
from pytest_backdoor.models.inspection._finite import CHUNK_BYTES, not_finite
from pytest_backdoor.models.inspection._safetensors import inspect_safetensors
from pytest_backdoor.models.inspection._torch import inspect_pickle, inspect_torch_zip

torch = pytest.importorskip("torch")
INF, NAN = float("inf"), float("nan")
LARGE = [0.0] * CHUNK_BYTES
CONSTANTS = {
    "bound": INF,
    "lower bound": -INF,
    "bound in a list": [INF],
    "mask": [[0.0, -INF], [0.0, 0.0]],
    "mask of minus zeros": [-0.0, -INF],
    "all masked": [-INF, -INF],
    "large mask": [-INF, *LARGE, -INF],
}
BAD = {
    "no number": NAN,
    "no number in a mask": [0.0, -INF, NAN],
    "weights in a mask": [0.0, -INF, 1.0],
    "weights behind a mask": [-INF, *LARGE, 1.0],
    "two bounds": [-INF, INF],
    "bounds alike": [INF, INF],
    "weights": [1.0, INF],
}
FORMATS = ["zip", "legacy", "safetensors"]


def rules(tensors: dict[str, object], form: str) -> set[str]:
    from safetensors.torch import save

    if form == "safetensors":
        return {problem.rule for problem in inspect_safetensors(save(tensors), "m")}
    stream = io.BytesIO()
    torch.save(tensors, stream, _use_new_zipfile_serialization=form == "zip")
    inspect = inspect_torch_zip if form == "zip" else inspect_pickle
    return {problem.rule for problem in inspect(stream.getvalue(), "m")}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_of_honest_models_pass(name, dtype, form):
    values = torch.tensor(CONSTANTS[name]).to(getattr(torch, dtype))
    assert rules({"weight": torch.ones(3), "constant": values}, form) == set()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_constant_does_not(name, dtype, form):
    values = torch.tensor(BAD[name]).to(getattr(torch, dtype))
    assert rules({"weight": torch.ones(3), "constant": values}, form) == {"not-finite-weights"}


@pytest.mark.parametrize("form", FORMATS)
def test_the_mask_of_an_attention_is_a_buffer_like_others(form):
    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = torch.nn.Linear(4, 4)
            self.register_buffer("mask", torch.nn.Transformer.generate_square_subsequent_mask(8))

    network = Attention()
    assert rules(network.state_dict(), form) == set()
    network.project.weight.data[2, 1] = -INF
    assert rules(network.state_dict(), form) == {"not-finite-weights"}


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_part_of_weights_is_no_constant(form):
    weights = torch.ones(4, 4)
    weights[1] = -INF
    assert rules({"mask": weights[1], "weight": weights}, form) == {"not-finite-weights"}
    assert rules({"bound": weights[1, 2], "weight": weights}, form) == {"not-finite-weights"}
    # Alone, nothing else of the storage is seen.
    assert rules({"mask": weights[1]}, form) == set()


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_both_byte_orders(kind, big_endian):
    dtype = TYPES[f"float{8 * int(kind[1])}"]
    order = ">" if big_endian else "<"

    def found(*values: float) -> bool:
        return not_finite(memoryview(np.array(values, order + kind).tobytes()), dtype, big_endian=big_endian)

    assert [found(1, np.inf), found(np.nan), found(0, np.nan)] == [True] * 3
    assert [found(1, 2), found(np.inf), found(0, -np.inf), found()] == [False] * 4


def test_every_format_has_the_same_types():
    """Types of less than a byte aside, whose elements are always finite."""
    for names in (SAFETENSORS, ONNX):
        assert {dtype.name for dtype in names.values() if dtype.special} <= FLOATS.keys()
        assert all(dtype is TYPES[dtype.name] for dtype in names.values() if dtype.bits >= 8)
