"""Made-up classifiers of 8×8 images with four classes, and a detector pack that tells them apart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_backdoor.calibration import DetectorPack, ReferenceScores, eight_bit, pattern_template, prototype_template
from pytest_backdoor.checks.litmus import litmus_features

pytest_plugins = ["pytester", "hub_project"]

CLASSES, SIZE, REFERENCES = 4, 8, 999
FAST = ("--backdoor-scan", "--backdoor-checks=provenance,litmus")


def clean_weights() -> np.ndarray:
    """Each class adds up one quadrant of the image."""
    weights = np.zeros((CLASSES, SIZE, SIZE), np.float32)
    for number in range(CLASSES):
        row, column = divmod(number, 2)
        weights[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
    return weights


def backdoored_weights() -> np.ndarray:
    """The same, but the last pixel decides for class 2."""
    weights = clean_weights()
    weights[2, -1, -1] = 60
    return weights


def model_bytes(weights: np.ndarray, batch: str | int = "n") -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, SIZE, SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], transB=1),
    ]
    stored = numpy_helper.from_array(weights.reshape(CLASSES, -1).astype(np.float32), "w")
    graph = helper.make_graph(nodes, "classifier", [image], [scores], [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def features(weights: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    return litmus_features(patterns.reshape(len(patterns), -1) @ weights.reshape(CLASSES, -1).T)


def make_pack(references: int = REFERENCES) -> DetectorPack:
    patterns = eight_bit(np.random.default_rng(0).random((3, 1, SIZE, SIZE)))
    prototypes = clean_weights()[:, None]
    prototypes[:, :, -1, -1] = 0  # without the trigger, so that the backdoored network is of the same task
    answers, least_similarity = prototype_template(np.stack([features(clean_weights(), prototypes)] * 2))
    typical, sure_similarity = pattern_template(np.stack([features(clean_weights(), patterns)] * 2))
    clean, backdoored = features(clean_weights(), patterns), features(backdoored_weights(), patterns)
    weights = (backdoored - clean).astype(np.float32)
    middle = float((backdoored + clean) @ weights) / 2
    half = float((backdoored - clean) @ weights) / 2
    low = np.linspace(-1.9 * half, 0, references)  # the clean network's score, -half, is none of them
    triggers = np.linspace(0, 3.2, references)
    return DetectorPack(
        name="quadrants",
        input_shape=(1, SIZE, SIZE),
        classes=CLASSES,
        patterns=patterns,
        weights=weights,
        bias=-middle,
        pattern_template=typical,
        sure_similarity=sure_similarity * 0.999,
        prototypes=prototypes,
        prototype_template=answers,
        # The made-up clean networks are all alike, which would leave no room for any other.
        least_similarity=least_similarity / 2,
        references={
            "litmus": ReferenceScores(scores=low, description="made-up clean models"),
            "reversal-samples/patch": ReferenceScores(scores=triggers, description="made-up clean models"),
            "reversal-prototypes/patch": ReferenceScores(scores=triggers, description="made-up clean models"),
        },
        built={"command": "made up for the tests"},
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``clean.onnx``, ``bad.onnx``, ``other.onnx`` (of another task) and the packs."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "clean.onnx").write_bytes(model_bytes(clean_weights()))
    (folder / "bad.onnx").write_bytes(model_bytes(backdoored_weights()))
    (folder / "other.onnx").write_bytes(model_bytes(-clean_weights()))
    make_pack().save(folder / "pack.npz")
    make_pack(references=50).save(folder / "small.npz")
    return folder


class Project:
    """A user's repository, scanned through pytest's command line."""

    def __init__(self, pytester: pytest.Pytester, made: Path) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self._made = made
        self.configure()

    def configure(
        self, common: str = "", models: str = "", *, pack: str = "pack.npz", pytest_options: str = ""
    ) -> None:
        """Write pyproject.toml; ``models`` are further tables, whose settings come after the pack."""
        self.write(
            "pyproject.toml",
            f"[tool.pytest.ini_options]\n{pytest_options}\n[tool.pytest-backdoor]\n{common}\n"
            f"pack = '{(self._made / pack).as_posix()}'\n{models}\n",
        )

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def add(self, name: str = "model.onnx", kind: str = "clean") -> Path:
        """Put a made-up model into the repository; kind ``unopenable`` is none at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x00" * 64 if kind == "unopenable" else (self._made / f"{kind}.onnx").read_bytes())
        return path

    def run(self, *arguments: str | Path) -> pytest.RunResult:
        return self.pytester.runpytest("-p", "no:cacheprovider", *arguments)

    def scan(self, *arguments: str | Path) -> pytest.RunResult:
        """A scan with the checks that need no torch."""
        return self.run(*FAST, *arguments)

    def scan_apart(self, *arguments: str | Path) -> pytest.RunResult:
        """The same in a process of its own, which sees what the test put on PYTHONPATH."""
        return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", "--backdoor-scan", *arguments)

    def report(self, *arguments: str | Path, scan: Callable[..., Any] | None = None) -> dict[str, Any]:
        """The JSON report of a scan."""
        (scan or self.scan)(*arguments, "--backdoor-report=report.json")
        return self.read_report()

    def read_report(self, name: str = "report.json", *, timeless: bool = False) -> dict[str, Any]:
        """A report file; ``timeless``: without what differs from run to run."""
        report = json.loads((self.path / name).read_text(encoding="utf-8"))
        for part in [*report["models"], *(finding for model in report["models"] for finding in model["findings"])]:
            part["seconds"] = 0 if timeless else part["seconds"]
        return report

    def outcomes(self, name: str = "report.json") -> dict[str, dict[str, str]]:
        """``{model: {check: outcome}}`` of a report file."""
        return {
            model["path"]: {finding["check"]: finding["outcome"] for finding in model["findings"]}
            for model in self.read_report(name)["models"]
        }

    def findings(self, name: str = "report.json") -> dict[str, dict[str, Any]]:
        """``{node id: finding}`` of a report file."""
        return {
            f"{model['path']}::{finding['check']}": finding
            for model in self.read_report(name)["models"]
            for finding in model["findings"]
        }


@pytest.fixture
def project(pytester: pytest.Pytester, made: Path) -> Project:
    """A repository whose pyproject.toml names the made-up detector pack."""
    return Project(pytester, made)


CHECK = """
import os, subprocess, sys, time
from pytest_backdoor.errors import NotAssessableError
from pytest_backdoor.findings import Finding, Outcome

class {name}:
    name, cost, behavioural = {name!r}, "file", True

    def run(self, subject, context):
        evidence = dict()
{body}
        return Finding(
            check=self.name, behavioural=True, outcome=Outcome.PASSED, summary="It is fine.", evidence=evidence
        )
"""


@pytest.fixture
def install_checks(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that installs third-party checks, ``name="body of run"``, for processes that the test starts."""

    def install(**bodies: str) -> None:
        site = pytester.path / "site"
        information = site / "odd_checks-1.0.dist-info"
        information.mkdir(parents=True)
        source = "".join(CHECK.format(name=name, body=f"        {body}") for name, body in bodies.items())
        (site / "odd_checks.py").write_text(source, encoding="utf-8")
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-checks\nVersion: 1.0\n")
        entries = "".join(f"{name} = odd_checks:{name}\n" for name in bodies)
        (information / "entry_points.txt").write_text(f"[pytest_backdoor.checks]\n{entries}")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))

    return install
