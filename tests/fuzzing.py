"""Scanning damaged files: none may pass, none may hang, and the process that asks must survive them all."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from mutations import mutate
from onnx import TensorProto, helper, numpy_helper

from pytest_backdoor.cli import main as command
from pytest_backdoor.findings import Finding, Outcome
from pytest_backdoor.scanning._processes import ForkServer
from pytest_backdoor.scanning._session import ScanSession
from pytest_backdoor.settings import ScanSettings, make_settings

TIMEOUT_SECONDS, MEMORY_MB = 30, 2048
SHAPE, CLASSES = (1, 8, 8), 3
FACTORY = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
"""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What became of damaged files.

    ``provenance``, ``litmus``: outcomes by ``(format, outcome)``. ``rules``: how many files of a format broke a rule
    other than that their hash differs. ``ended``: scans whose process was killed or ran into a limit, by what it said.
    ``passed``: files that provenance let pass, which must be empty. ``slowest``: seconds.
    """

    files: Counter[str] = field(default_factory=Counter)
    provenance: Counter[tuple[str, str]] = field(default_factory=Counter)
    litmus: Counter[tuple[str, str]] = field(default_factory=Counter)
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    passed: list[str] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)

    def add(self, other: Outcomes) -> None:
        """Take in what another process found."""
        for name in ("files", "provenance", "litmus", "rules", "ended"):
            getattr(self, name).update(getattr(other, name))
        self.passed.extend(other.passed)
        self.slowest[:] = sorted([*self.slowest, *other.slowest])[-1:]


def good_files() -> dict[str, bytes]:
    """A small genuine model in each format, by file name."""
    import torch
    from safetensors.torch import save

    random = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (4, 1, 3, 3), "0.bias": (4,), "3.weight": (3, 144), "3.bias": (3,)}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {
        "plain.onnx": _onnx(random),
        "typed.onnx": _onnx(random, raw=False),
        "quantised.onnx": _quantised(random),
        "model.safetensors": save(state),
        "zip.pt": _saved(state),
        "legacy.pth": _saved(state, _use_new_zipfile_serialization=False),
    }


def _saved(state: Mapping[str, object], **options: bool) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


def _onnx(random: np.random.Generator, *, raw: bool = True) -> bytes:
    kernel, matrix = random.normal(size=(4, 1, 3, 3)), random.normal(size=(144, CLASSES))
    tensors = [_tensor(name, values, raw=raw) for name, values in (("k", kernel), ("w", matrix))]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    return _model(nodes, tensors)


def _quantised(random: np.random.Generator) -> bytes:
    matrix = random.integers(-127, 127, size=(64, CLASSES)).astype(np.int8)
    tensors = [
        numpy_helper.from_array(matrix, "w"),
        numpy_helper.from_array(np.float32(0.01).reshape(()), "s"),
        numpy_helper.from_array(np.int8(0).reshape(()), "z"),
    ]
    nodes = [
        helper.make_node("Flatten", ["x"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["m"]),
        helper.make_node("MatMul", ["a", "m"], ["y"]),
    ]
    return _model(nodes, tensors)


def _tensor(name: str, values: np.ndarray, *, raw: bool) -> TensorProto:
    if raw:
        return numpy_helper.from_array(values.astype(np.float32), name)
    return helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.astype(np.float32).flatten())


def _model(nodes: list, tensors: list[TensorProto]) -> bytes:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "g", [image], [scores], tensors)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return content


def fuzz(folder: Path, seeds: range, done: Callable[[], None] = lambda: None) -> Outcomes:
    """Damage and scan one file for each of ``seeds``, each listed in a lock file as it was before.

    ``folder``: an empty one. ``done`` is called after each file. An exception here is a file that the test process did
    not survive.
    """
    good = good_files()
    for name, content in good.items():
        (folder / name).write_bytes(content)
    (folder / "fuzzed_network.py").write_text(FACTORY, encoding="utf-8")
    _lock(folder, list(good))
    outcomes = Outcomes()
    with ForkServer() as server:
        for seed in seeds:
            random = Random(seed)
            name = sorted(good)[seed % len(good)]
            damaged = good[name]
            while damaged == good[name]:
                damaged = mutate(good[name], random, list(good.values()))
            (folder / name).write_bytes(damaged)
            _scan(folder, name, seed, server, outcomes)
            done()
    return outcomes


def _lock(folder: Path, names: list[str]) -> None:
    before, environment = Path.cwd(), os.environ.pop("CI", None)
    os.chdir(folder)
    try:
        (folder / "pyproject.toml").touch()
        if command(["lock", "add", "--lock", "models.lock", *names]) != 0:
            raise RuntimeError("The genuine files could not be listed.")
    finally:
        os.chdir(before)
        if environment is not None:
            os.environ["CI"] = environment


def _scan(folder: Path, name: str, seed: int, server: ForkServer, outcomes: Outcomes) -> None:
    settings = _settings(name)
    started = time.monotonic()
    with ScanSession(folder / name, name, settings, folder, server=server) as session:
        provenance, litmus = session.run("provenance"), session.run("litmus")
    outcomes.slowest[:] = [max([time.monotonic() - started, *outcomes.slowest])]
    outcomes.files[name] += 1
    outcomes.provenance[name, provenance.outcome.value] += 1
    outcomes.litmus[name, litmus.outcome.value] += 1
    if provenance.outcome not in (Outcome.FAILED, Outcome.ERROR):
        outcomes.passed.append(f"{name}, seed {seed}")
    for rule in {problem.rule for problem in provenance.problems if problem.blocks} - {"hash-mismatch"}:
        outcomes.rules[name, rule] += 1
    for finding in (provenance, litmus):
        outcomes.ended.update(_ended(finding))


def _settings(name: str) -> ScanSettings:
    factory = None if name.endswith(".onnx") else "fuzzed_network:make"
    return make_settings(
        {
            "checks": ("provenance", "litmus"),
            "lock": "models.lock",
            "timeout": TIMEOUT_SECONDS,
            "memory": MEMORY_MB,
            "factory": factory,
            "input_shape": SHAPE,
        },
        where="fuzzing",
    )


def _ended(finding: Finding) -> Iterator[str]:
    """How a scan's process was stopped, if it was."""
    for sign, what in (
        ("took longer than", "over the time limit"),
        ("processor time", "over the processor time"),
        ("to scan, so it was stopped", "over the memory limit"),
        ("was killed by signal", "killed by a signal"),
        ("ended with status", "ended by itself"),
    ):
        if finding.outcome is Outcome.ERROR and sign in finding.summary:
            yield what
