"""Measure the litmus check beside a bare ``session.run``, and write ``litmus.md`` and ``litmus.json`` beside this.

Usage: python docs/benchmarks/litmus.py [--runs N]      (from the repository; torch stays out of the measured process)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, save

from pytest_backdoor.calibration import DetectorPack, ReferenceScores, eight_bit, pattern_template, prototype_template
from pytest_backdoor.checks._base import Context
from pytest_backdoor.checks.litmus import LitmusCheck, features_product, litmus_features
from pytest_backdoor.models import Subject
from pytest_backdoor.settings import ScanSettings

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
KINDS = ("clean", "badnet")
PACKAGES = ("pytest-backdoor", "numpy", "onnxruntime")
WIDTHS = (16, 32, 64, 64, 128)
POOLED = (1, 3, 4)
PATTERNS, PROTOTYPES, REFERENCES = 10, 10, 500
WARM_UP = 20
EXPLANATION = (
    "*Bare* is `session.run` on the patterns as a ready array: in the opened model's own session, which does not let "
    "waiting threads spin, and in one with ONNX Runtime's default options. *Check* is `LitmusCheck().run` with the "
    "choice of the pack and the judgement. A model whose answers to the patterns are not those of a clean network is "
    "asked the prototypes too. *First* is the first check of the model, which unpacks the pack."
)


def write_network(path: Path, classes: int) -> None:
    """A VGG-like network for 3x32x32 images with random weights: five 3x3 convolutions, three 2x2 pools."""
    rng = np.random.default_rng(0)
    nodes, weights, last, channels = [], [], "image", 3
    for number, width in enumerate(WIDTHS):
        kernel = rng.normal(scale=(2 / (9 * channels)) ** 0.5, size=(width, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last, channels = f"r{number}", width
        if number in POOLED:
            nodes.append(helper.make_node("MaxPool", [last], [f"p{number}"], kernel_shape=[2, 2], strides=[2, 2]))
            last = f"p{number}"
    matrix = rng.normal(size=(channels * 4 * 4, classes)).astype(np.float32)
    weights.append(numpy_helper.from_array(matrix, "w"))
    nodes += [helper.make_node("Flatten", [last], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"])]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes])
    graph = helper.make_graph(nodes, "network", [image], [scores], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def write_pack(path: Path, model: Path, classes: int) -> None:
    """A made-up pack whose task is that of ``model``."""
    rng = np.random.default_rng(1)
    patterns = eight_bit(rng.random((PATTERNS, 3, 32, 32)))
    prototypes = eight_bit(rng.random((PROTOTYPES, 3, 32, 32)))
    classifier = Subject(model.name, ScanSettings(), path=model).classifier
    typical = litmus_features(classifier.logits(patterns))
    answers = litmus_features(classifier.logits(prototypes))
    pattern_answers, sure_similarity = pattern_template(np.stack([typical, typical]))
    prototype_answers, least_similarity = prototype_template(np.stack([answers, answers]))
    DetectorPack(
        name="made up",
        input_shape=(3, 32, 32),
        classes=classes,
        patterns=patterns,
        weights=rng.normal(size=PATTERNS * classes).astype(np.float32),
        bias=0.0,
        pattern_template=pattern_answers,
        sure_similarity=0.9 * sure_similarity,
        prototypes=prototypes,
        prototype_template=prototype_answers,
        least_similarity=least_similarity,
        offsets=np.zeros(typical.size, np.float32),
        references={"litmus": ReferenceScores(scores=rng.normal(size=REFERENCES), description="made up")},
    ).save(path)


def cases(folder: Path) -> dict[str, tuple[Path, ScanSettings]]:
    """Model and settings by the name under which the table shows them."""
    found = {f"mnist-{kind}.onnx, shipped pack": (EXAMPLES / f"mnist-{kind}.onnx", ScanSettings()) for kind in KINDS}
    for classes in (10, 43):
        model, pack = folder / f"vgg-{classes}.onnx", folder / f"vgg-{classes}.npz"
        write_network(model, classes)
        write_pack(pack, model, classes)
        found[f"VGG-like, 3x32x32, {classes} classes"] = (model, ScanSettings(pack=str(pack)))
    return found


def seconds_of(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def alternate(calls: Sequence[Callable[[], Any]], runs: int) -> list[list[float]]:
    """Seconds of ``runs`` runs of each call, in random turn, after some that are not counted."""
    seconds: list[list[float]] = [[] for _ in calls]
    order = random.Random(0)
    for run in range(runs + WARM_UP):
        for number in order.sample(range(len(calls)), len(calls)):
            took = seconds_of(calls[number])
            if run >= WARM_UP:
                seconds[number].append(took)
    return seconds


def measure(model: Path, settings: ScanSettings, runs: int) -> dict[str, Any]:
    """Seconds of the check and of bare runs, each pair in random turn so that a slow moment hits both alike.

    The bare runs are ``session.run`` on the patterns as a ready array, in the session of the opened subject and in one
    with ONNX Runtime's default options. ``first``: the first check, which also unpacks the pack.
    """
    subject = Subject(model.name, settings, path=model)
    own: onnxruntime.InferenceSession = subject.classifier._session  # type: ignore[attr-defined]
    default = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    context, check = Context(settings=settings, root=HERE, behavioural_checks=("litmus", "reversal")), LitmusCheck()
    first = seconds_of(lambda: check.run(subject, context))
    (pack,) = context.packs_for(subject)
    patterns = np.array(pack.patterns)
    inputs, outputs = own.get_inputs()[0].name, [own.get_outputs()[0].name]
    bare = {
        "own session": lambda: own.run(outputs, {inputs: patterns}),
        "default session": lambda: default.run(outputs, {inputs: patterns}),
    }
    pairs = {
        name: dict(zip(("bare", "check"), alternate([call, lambda: check.run(subject, context)], runs), strict=True))
        for name, call in bare.items()
    }
    similarity = features_product(subject.classifier.logits(patterns), pack.pattern_template)
    asked = len(patterns) + (len(pack.prototypes) if similarity < pack.sure_similarity else 0)
    return {"patterns": len(patterns), "images": asked, "first": first, "seconds": pairs}


def as_markdown(measured: dict[str, dict[str, Any]], runs: int) -> str:
    """The table of medians and quartiles in microseconds, and the ratios of the medians."""
    lines = [
        "# The litmus check beside a bare run",
        "",
        f"Written by `python docs/benchmarks/litmus.py --runs {runs}` on {os.cpu_count()} cores "
        f"({platform.machine()}, {platform.system()}), load average {os.getloadavg()[0]:.1f} at the end, Python "
        f"{platform.python_version()}; "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + ". Microseconds: "
        f"median (quartiles), n = {runs} each, in random turn, in one process without torch.",
        "",
        EXPLANATION,
        "",
        "| model | images | bare session | bare | check | ratio of medians | first |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in measured.items():
        for session, seconds in found["seconds"].items():
            ratio = float(np.median(seconds["check"]) / np.median(seconds["bare"]))
            cells = [str(found["images"]), session, _quartiles(seconds["bare"]), _quartiles(seconds["check"])]
            lines.append(f"| {' | '.join([name, *cells, f'{ratio:.2f}', format(found['first'] * 1e6, '.0f')])} |")
    return "\n".join([*lines, ""])


def _quartiles(seconds: list[float]) -> str:
    low, middle, high = (f"{value * 1e6:.0f}" for value in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return f"{middle} ({low}–{high})"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=400, metavar="N", help="runs of each; default: %(default)s")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: measure(*case, runs) for name, case in cases(Path(folder)).items()}
    assert "torch" not in sys.modules
    (HERE / "litmus.json").write_text(json.dumps(measured) + "\n", encoding="utf-8")
    text = as_markdown(measured, runs)
    (HERE / "litmus.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
