"""Files in the safetensors format that lie are refused; those that the library writes pass."""

from __future__ import annotations

import numpy as np
import pytest
from corpus.safetensors_files import CASES, GOOD, entry, safetensors
from inspecting import name_of, require_refused

from pytest_backdoor.models.inspection._dtypes import SAFETENSORS
from pytest_backdoor.models.inspection._safetensors import inspect_safetensors


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_bad_files(tmp_path, case):
    require_refused(case, tmp_path)


@pytest.mark.parametrize("content", [GOOD, safetensors({}, b""), safetensors({"w": entry((0,), 0, 0)}, b"")])
def test_small_good_files(content):
    assert inspect_safetensors(content, "m") == []


def test_what_numpy_writes_passes():
    from safetensors.numpy import save

    random = np.random.default_rng(0)
    tensors = {f"layer/{n}.weight:0": random.standard_normal((n, 3)).astype(np.float32) for n in range(5)}
    kinds = (np.float64, np.float16, np.int64, np.uint8, np.bool_, np.uint64)
    tensors |= {np.dtype(kind).name: np.ones((2, 3), kind) for kind in kinds}
    assert inspect_safetensors(save(tensors, {"format": "np"}), "m") == []


def test_what_torch_writes_passes():
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    names = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "float16", "uint16", "int8"]
    tensors = {name: torch.ones(3, 5).to(getattr(torch, name)) for name in names}
    content = save(tensors)
    assert inspect_safetensors(content, "m") == []
    types = {SAFETENSORS[kind].name for kind in SAFETENSORS if f'"{kind}"'.encode() in content}
    assert types == set(names)


@pytest.mark.parametrize(
    "name", ["float16", "float32", "float64", "complex64", "bfloat16", "float8_e5m2", "float8_e4m3fn"]
)
@pytest.mark.parametrize("position", [0, 70_000, 199_999])
def test_one_bad_weight_among_many(name, position):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    weights = torch.ones(200_000).to(getattr(torch, name))
    assert inspect_safetensors(save({"w": weights}), "m") == []
    weights[position] = float("nan")
    found = inspect_safetensors(save({"v": torch.ones(3), "w": weights}), "m")
    assert [problem.rule for problem in found] == ["not-finite-weights"]
    assert "no numbers: w." in found[0].message


def test_the_largest_finite_weights_are_finite():
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    names = ["float16", "bfloat16", "float32", "float64", "float8_e5m2", "float8_e4m3fn"]
    types = {name: getattr(torch, name) for name in names}
    largest = {
        name: torch.tensor([torch.finfo(kind).max, torch.finfo(kind).min], dtype=torch.float64).to(kind)
        for name, kind in types.items()
    }
    assert inspect_safetensors(save(largest), "m") == []
