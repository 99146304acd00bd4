"""Measure what a process for each model's scan costs, and write ``isolation.md`` and ``isolation.json`` beside this.

Usage: python docs/benchmarks/isolation.py [--models N]      (from the repository)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pytest_backdoor.findings import ModelReport, Outcome
from pytest_backdoor.models import Subject
from pytest_backdoor.scanning import scan_file
from pytest_backdoor.scanning._engine import Engine
from pytest_backdoor.scanning._processes import ForkServer
from pytest_backdoor.settings import ScanSettings, make_settings

HERE = Path(__file__).resolve().parent
PACKAGES = ("pytest-backdoor", "numpy", "onnx", "onnxruntime")
CHECKS = ("provenance,litmus", "provenance")
SHAPE, CLASSES = (1, 28, 28), 10
TARGET = 0.3


def write_model(path: Path, seed: int) -> Path:
    """A small convolutional classifier with random weights, of the shape of the shipped digits' pack."""
    random = np.random.default_rng(seed)
    shapes = {"k1": (8, 1, 3, 3), "k2": (16, 8, 3, 3), "w": (16 * 24 * 24, CLASSES)}
    weights = [
        numpy_helper.from_array((random.normal(size=shape) / 10).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "k1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "k2"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *SHAPE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "digits", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def scan_here(path: Path, settings: ScanSettings) -> ModelReport:
    """The scan in this process, without any isolation."""
    return Engine(Subject(path.name, settings, path=path, root=path.parent), settings, path.parent).report()


def measure(checks: str, models: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of each model's scan in each way, one of each in turn; a first model warms them all and is told apart."""
    settings = make_settings({"checks": checks}, where="benchmark")
    paths = [write_model(folder / f"{number}.onnx", number) for number in range(models + 1)]
    with ForkServer() as server:
        ways: dict[str, Callable[[Path], ModelReport]] = {
            "in this process": lambda path: scan_here(path, settings),
            "forked": lambda path: scan_file(path, path.name, settings, folder, server),
            "spawned": lambda path: scan_file(path, path.name, settings, folder),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for path in paths:
            outcomes = set()
            for name, scan in ways.items():
                started = time.perf_counter()
                report = scan(path)
                seconds[name].append(time.perf_counter() - started)
                outcomes.add(tuple(finding.outcome for finding in report.findings))
                if name != "in this process" and (report.isolation or {}).get("process") != name:
                    sys.exit(f"{path.name} was not {name}: {report.isolation}")
            if len(outcomes) != 1 or Outcome.ERROR in outcomes.pop():
                sys.exit(f"{path.name} is not judged alike in all ways, or not at all.")
    return seconds


def as_markdown(results: dict[str, dict[str, list[float]]], models: int) -> str:
    """The table with medians and ranges of all models but the first, and what isolation adds."""
    lines = [
        "# What isolation costs",
        "",
        f"Written by `python docs/benchmarks/isolation.py --models {models}` on {os.cpu_count()} cores "
        f"({platform.machine()}, {platform.system()}), load {os.getloadavg()[0]:.1f} at its end, "
        f"Python {platform.python_version()}; "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f". Wall time of one model's scan, n = {models} small ONNX models of random weights (seeds 1 to {models}), "
        "which litmus does not assess once it has asked them all its images; the three ways in turn. The first model, "
        "which pays the imports, is in a column of its own.",
        "",
        "| checks | process | median s | fastest | slowest | beyond this process, median s | first model |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for checks, seconds in results.items():
        inside = statistics.median(seconds["in this process"][1:])
        for name, (first, *values) in seconds.items():
            median = statistics.median(values)
            lines.append(
                f"| {checks} | {name} | {median:.3f} | {min(values):.3f} | {max(values):.3f} | {median - inside:.3f} "
                f"| {first:.3f} |"
            )
    lines += ["", f"The target is less than {TARGET} s beyond this process for a forked child.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=20, metavar="N", help="models to scan; default: %(default)s")
    models = parser.parse_args().models
    results = {}
    for checks in CHECKS:
        with tempfile.TemporaryDirectory() as folder:
            results[checks] = measure(checks, models, Path(folder))
    (HERE / "isolation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = as_markdown(results, models)
    (HERE / "isolation.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
