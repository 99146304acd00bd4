from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from stand_in_subjects import FunctionClassifier, StandInSubject, context, linear_classifier, pack_for

from pytest_backdoor.checks.litmus import LitmusCheck, litmus_features
from pytest_backdoor.errors import NotAssessableError
from pytest_backdoor.findings import Outcome

CLASSIFIER = linear_classifier()


def run(tmp_path, pack, classifier=CLASSIFIER, **settings):
    pack.save(tmp_path / "pack.npz")
    return LitmusCheck().run(StandInSubject(classifier), context(tmp_path, pack="pack.npz", **settings))


def test_features_of_a_small_case_by_hand():
    logits = np.array([[1.0, 3.0], [0.0, 8.0]])
    # Centred: -1, 1, -4, 4; root mean square: √(34 / 4).
    np.testing.assert_allclose(litmus_features(logits), np.array([-1, 1, -4, 4]) / np.sqrt(8.5))


@pytest.mark.parametrize(
    "change", [lambda x: x * 7, lambda x: x + 5, lambda x: x - np.log(np.exp(x).sum(-1))[..., None]]
)
def test_features_do_not_depend_on_scale_and_form(change):
    logits = np.random.default_rng(0).normal(size=(6, 10))
    np.testing.assert_allclose(litmus_features(change(logits)), litmus_features(logits), atol=1e-9)


def test_features_of_several_networks_at_once_and_of_tensors():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(size=(5, 6, 10))
    expected = np.stack([litmus_features(one) for one in logits])
    np.testing.assert_allclose(litmus_features(logits), expected)
    np.testing.assert_allclose(litmus_features(torch.from_numpy(logits)).numpy(), expected)


def test_constant_answers_have_zero_features():
    assert not litmus_features(np.full((3, 4), 2.0)).any()


@pytest.mark.parametrize(
    ("bias", "outcome", "words"),
    [(9.0, Outcome.FAILED, "those of a backdoored network"), (-9.0, Outcome.PASSED, "those of a clean network")],
)
def test_the_score_is_the_linear_classifier_s(tmp_path, bias, outcome, words):
    pack = pack_for(CLASSIFIER, bias=bias)
    found = run(tmp_path, pack)
    logits = [CLASSIFIER.logits(pattern[None])[0].astype(float) for pattern in pack.patterns]
    flat = np.concatenate([row - row.mean() for row in logits])
    flat /= np.sqrt((flat**2).mean())
    assert found.score == pytest.approx(sum(flat * pack.weights) + bias, abs=1e-4)
    assert found.outcome is outcome
    assert words in found.summary
    assert found.evidence["patterns"] == 2
    assert found.seed is None
    json.dumps(found.to_json())


@pytest.mark.parametrize(
    "classifier",
    [
        linear_classifier(seed=8),
        FunctionClassifier(lambda images: np.zeros((len(images), 3)), (1, 4, 4), 3),
        FunctionClassifier(lambda images: -CLASSIFIER.logits(images), (1, 4, 4), 3),
    ],
)
def test_a_model_of_another_task_is_not_judged(tmp_path, classifier):
    with pytest.raises(
        NotAssessableError, match=r"^net\.onnx recognises [01] of the 3 prototype images .* 'tiny', fewer"
    ):
        run(tmp_path, pack_for(CLASSIFIER), classifier)


@pytest.mark.parametrize(("least", "refused"), [(2, False), (3, True)])
def test_a_model_may_miss_as_many_prototypes_as_the_pack_allows(tmp_path, least, refused):
    pack = pack_for(CLASSIFIER)
    pack = dataclasses.replace(pack, prototypes=pack.prototypes[[0, 1, 1]], least_recognised=least)
    if refused:
        with pytest.raises(NotAssessableError, match="recognises 2 of the 3 prototype images"):
            run(tmp_path, pack)
    else:
        assert run(tmp_path, pack).score is not None


def test_a_pack_of_another_task_s_shape_does_not_apply(tmp_path):
    with pytest.raises(NotAssessableError, match="is for images of shape"):
        run(tmp_path, pack_for(linear_classifier(shape=(1, 5, 5))))


def test_no_torch_is_needed(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    classifier = FunctionClassifier(lambda images: images.reshape(len(images), -1) @ matrix, (1, 4, 4), 3)
    pack_for(classifier).save(tmp_path / "pack.npz")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from pytest_backdoor.models import Subject; from pytest_backdoor.scanning._engine import Engine\n"
        "from pytest_backdoor.settings import ScanSettings\n"
        "settings = ScanSettings(checks=('litmus', 'reversal'), pack='pack.npz', fpr=0.1)\n"
        "engine = Engine(Subject('net.onnx', settings, path=Path('net.onnx')), settings, Path('.'))\n"
        "for finding in engine.run_all(): print(finding.check, finding.outcome, finding.summary)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    litmus, reversal = done.stdout.splitlines()
    assert litmus.split()[:2] in (["litmus", "passed"], ["litmus", "failed"])
    assert reversal.startswith("reversal not_assessed Trigger reversal needs torch")
