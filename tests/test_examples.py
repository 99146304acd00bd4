"""The shipped example models against the shipped detector pack: what the README promises."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pytest_backdoor import scan
from pytest_backdoor.calibration import load_pack, shipped_packs
from pytest_backdoor.findings import Outcome, Verdict

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
NAMES = {"badnet": EXAMPLES / "mnist-badnet.onnx", "clean": EXAMPLES / "mnist-clean.onnx"}


def outcomes(report):
    return {finding.check: finding.outcome for finding in report.models[0].findings}


def test_clean_twin_passes_every_check():
    pytest.importorskip("torch")
    report = scan(NAMES["clean"], root=ROOT)
    assert report.verdict is Verdict.CLEAN, [finding.summary for finding in report.models[0].findings]
    assert set(outcomes(report).values()) == {Outcome.PASSED}


def test_badnet_is_suspicious_with_its_target_and_trigger():
    pytest.importorskip("torch")
    report = scan(NAMES["badnet"], root=ROOT)
    assert report.verdict is Verdict.SUSPICIOUS
    (reversal,) = [finding for finding in report.models[0].findings if finding.check == "reversal"]
    assert reversal.outcome is Outcome.FAILED
    assert reversal.evidence["target_class"] == 3
    assert reversal.evidence["trigger_png"]
    rows, columns = reversal.evidence["trigger_drawing"][0].split(", ")
    # The trigger's pixels lie in rows and columns 24 to 26.
    assert int(rows.split()[1]) >= 20
    assert int(columns.split()[1]) >= 20


def test_the_same_seed_gives_the_same_findings():
    pytest.importorskip("torch")
    first, second = (
        [{**finding.to_json(), "seconds": 0} for finding in scan(NAMES["badnet"], root=ROOT).models[0].findings]
        for _ in range(2)
    )
    assert first == second


def test_the_lock_names_both_examples():
    for path in NAMES.values():
        report = scan(path, root=ROOT, checks=["provenance"])
        assert outcomes(report) == {"provenance": Outcome.PASSED}


@pytest.mark.parametrize("path", shipped_packs(), ids=lambda path: path.stem)
def test_the_shipped_packs_support_the_default_rate(path):
    assert path.stat().st_size < 1_000_000
    pack = load_pack(path)
    assert len(pack.patterns) == 10
    assert {"litmus", "margin"} <= set(pack.references)
    for reference in pack.references.values():
        assert 1 / (1 + len(reference.scores)) <= 0.01


@pytest.mark.parametrize("path", shipped_packs(), ids=lambda path: path.stem)
def test_the_results_are_those_of_the_shipped_packs(path):
    built = load_pack(path).built
    written = json.loads((ROOT / "docs" / "results" / f"pack-{path.stem}.json").read_text(encoding="utf-8"))
    assert {name: written[name] for name in built} == built


def test_there_is_a_pack_for_each_of_the_three_tasks():
    assert [path.stem for path in shipped_packs()] == ["cifar10", "gtsrb", "mnist"]


@pytest.fixture
def digits(tmp_path):
    """Real test digits as an ``.npz`` file; skips where MNIST is not on this machine."""
    root = os.environ.get("BACKDOOR_DATA_ROOT")
    raw = Path(root or "data") / "MNIST" / "raw"
    if not (raw / "t10k-images-idx3-ubyte").is_file():
        pytest.skip("MNIST is not here: point BACKDOOR_DATA_ROOT at a folder that holds MNIST/raw")
    images = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 28, 28)
    labels = np.frombuffer((raw / "t10k-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    np.savez(tmp_path / "digits.npz", x=images[1000:2000], y=labels[1000:2000])
    return tmp_path / "digits.npz"


@pytest.mark.parametrize(("name", "verdict"), [("badnet", Verdict.SUSPICIOUS), ("clean", Verdict.CLEAN)])
def test_verdicts_with_real_clean_samples(digits, name, verdict):
    pytest.importorskip("torch")
    report = scan(NAMES[name], root=ROOT, data=str(digits))
    assert report.verdict is verdict, [finding.summary for finding in report.models[0].findings]
    (reversal,) = [finding for finding in report.models[0].findings if finding.check == "reversal"]
    assert reversal.evidence["images"] == "samples"


def test_a_wrong_input_range_is_noticed_with_labelled_samples(digits):
    report = scan(NAMES["clean"], root=ROOT, data=str(digits), mean=[40.0], checks=["litmus", "reversal"])
    assert report.verdict is Verdict.UNVERIFIED
    assert "preprocessing" in " ".join(finding.summary for finding in report.models[0].findings)


def wrapped(path, tmp_path, nodes, constants):
    """The model at ``path`` with operators in front of it, from ``raw`` to the model's own input."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    name = model.graph.input[0].name
    made = [helper.make_node(kind, inputs.split(), [output.replace("INPUT", name)]) for kind, inputs, output in nodes]
    before = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*made, *before])
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(each), key) for key, each in constants.items())
    model.graph.input[0].name = "raw"
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "wrapped.onnx")
    return tmp_path / "wrapped.onnx"


def preprocessing_of(path, digits, **settings):
    (model,) = scan(path, root=ROOT, data=str(digits), checks=["litmus"], **settings).models
    return model.preprocessing, model.findings[0]


def test_the_preprocessing_of_the_example_is_found_with_real_digits(digits):
    found, litmus = preprocessing_of(NAMES["clean"], digits)
    assert (found["origin"], found["input_range"], found["mean"], found["std"]) == ("inferred", [0, 1], [0], [1])
    assert found["accuracy"] > 0.95
    assert litmus.outcome is Outcome.PASSED


# What stands in front of the example, and the convention that it then wants.
FRONTS = {
    "-1 to 1": ([("Add", "raw one", "v"), ("Mul", "v half", "INPUT")], {"input_range": [-1, 1]}),
    "0 to 255": (
        [("Mul", "raw small", "v"), ("Clip", "v zero one", "INPUT")],  # not 1/255, which would be read in the graph
        {"input_range": [0, 255]},
    ),
}


@pytest.mark.parametrize("name", FRONTS)
def test_other_preprocessing_of_the_example_is_found_with_real_digits(digits, tmp_path, name):
    nodes, wanted = FRONTS[name]
    path = wrapped(NAMES["clean"], tmp_path, nodes, {"one": 1, "half": 0.5, "zero": 0, "small": 1 / 253})
    found, litmus = preprocessing_of(path, digits)
    assert {**found, **wanted} == found
    assert found["origin"] == "inferred"
    assert found["accuracy"] > 0.95
    assert litmus.outcome is Outcome.PASSED


def test_a_wrong_declaration_for_real_digits_names_the_right_one(digits, tmp_path):
    nodes, _ = FRONTS["0 to 255"]
    path = wrapped(NAMES["clean"], tmp_path, nodes, {"one": 1, "zero": 0, "small": 1 / 253})
    found, litmus = preprocessing_of(path, digits, input_range=[0, 1])
    assert found is None
    assert litmus.outcome is Outcome.NOT_ASSESSED
    assert "which is the wrong one" in litmus.summary
    assert litmus.remedy.startswith("With input_range = [0, 255] it classifies 9")


ZOOS = {"cifar10": 10, "gtsrb": 43}


def scan_of_zoo(task, name, **settings):
    (model,) = scan(EXAMPLES / task / f"{name}.onnx", root=ROOT, **settings).models
    return model, {finding.check: finding for finding in model.findings}


@pytest.mark.parametrize("task", ZOOS)
def test_a_clean_network_of_a_zoo_passes(task):
    model, found = scan_of_zoo(task, "clean-test-0000")
    assert model.verdict is Verdict.CLEAN, [finding.summary for finding in model.findings]
    assert found["litmus"].outcome is Outcome.PASSED
    assert found["litmus"].evidence["pack"] == task


@pytest.mark.parametrize("task", ZOOS)
def test_a_poisoned_network_of_a_zoo_fails(task):
    model, found = scan_of_zoo(task, "poisoned-test-0000", fpr=0.01)
    assert model.verdict is Verdict.SUSPICIOUS, [finding.summary for finding in model.findings]
    assert found["litmus"].outcome is Outcome.FAILED
    assert found["litmus"].evidence["reference"]["significance"] == pytest.approx(0.01)


@pytest.mark.parametrize("task", ZOOS)
def test_the_target_class_of_a_poisoned_network_is_named(task):
    pytest.importorskip("torch")
    card = json.loads((EXAMPLES / task / "poisoned-test-0000.json").read_text(encoding="utf-8"))
    (pack,) = (load_pack(path) for path in shipped_packs() if path.stem == task)
    known = {"margin": "margin", "reversal": "reversal-prototypes/patch"}
    checks = [check for check, reference in known.items() if reference in pack.references]
    _, found = scan_of_zoo(task, "poisoned-test-0000", checks=checks)
    for check in checks:
        assert found[check].outcome is Outcome.FAILED
        assert found[check].evidence["target_class"] == card["backdoor"]["target"]


@pytest.mark.parametrize("task", ZOOS)
def test_a_network_whose_classes_are_in_another_order_is_not_judged(task, tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(EXAMPLES / task / "clean-test-0000.onnx")
    order = np.random.default_rng(0).permutation(ZOOS[task])
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    model.graph.node.append(helper.make_node("Gather", ["logits", "order"], ["renamed"], axis=1))
    model.graph.output[0].name = "renamed"
    onnx.save(model, tmp_path / "renamed.onnx")
    (found,) = scan(tmp_path / "renamed.onnx", root=tmp_path, checks=["litmus"]).models[0].findings
    assert found.outcome is Outcome.NOT_ASSESSED
    assert "its classes are in another order" in found.summary
