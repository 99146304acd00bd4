from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from stand_in_subjects import FunctionClassifier, StandInSubject, context, linear_classifier, pack_for

from pytest_backdoor.calibration import _find
from pytest_backdoor.checks.litmus import LitmusCheck, choose_pack, features_product, litmus_features, pack_score
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


def test_the_short_way_to_a_product_with_the_features():
    logits = np.random.default_rng(0).normal(size=(6, 10))
    logits -= logits.mean(axis=1, keepdims=True)
    weights = np.random.default_rng(1).normal(size=60)
    assert features_product(logits, weights) == pytest.approx(litmus_features(logits) @ weights)
    assert features_product(np.zeros((6, 10)), weights) == 0


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


OFFSETS = np.array([0.5, -1.0, 0.25, 0.1, 0.2, -0.3], np.float32)


@pytest.mark.parametrize("summed", [False, True])
def test_a_pack_with_offsets_scores_the_log_sum_exp_of_deviations(summed):
    pack = pack_for(CLASSIFIER, offsets=OFFSETS[:3] if summed else OFFSETS, gain=0.7)
    logits = CLASSIFIER.logits(pack.patterns)
    deviations = litmus_features(logits) * pack.weights
    if summed:
        deviations = deviations.reshape(2, 3).sum(axis=0)
    score = pack_score(pack, logits)
    assert score == pytest.approx(0.7 * np.log(np.exp(deviations + pack.offsets).sum()) + pack.bias)
    assert pack_score(pack, 50 * logits) == pytest.approx(score)


def test_a_large_deviation_does_not_overflow(tmp_path):
    found = run(tmp_path, pack_for(CLASSIFIER, offsets=1000 * OFFSETS))
    assert found.outcome is Outcome.FAILED
    assert found.score == pytest.approx(500, abs=20)


@pytest.mark.parametrize(
    "classifier",
    [
        linear_classifier(seed=7),
        FunctionClassifier(lambda images: np.zeros((len(images), 3)), (1, 4, 4), 3),
        FunctionClassifier(lambda images: -CLASSIFIER.logits(images), (1, 4, 4), 3),
    ],
)
def test_a_model_of_another_task_is_not_judged(tmp_path, classifier):
    with pytest.raises(
        NotAssessableError, match=r"^net\.onnx answers the 3 prototype images .* 'tiny' unlike networks of its task"
    ) as caught:
        run(tmp_path, pack_for(CLASSIFIER), classifier)
    assert caught.value.remedy.startswith("Check input_range, mean, std and layout.")
    assert "--backdoor-pack pack.npz" in caught.value.remedy


def cosine(classifier, images):
    """How much like CLASSIFIER another one answers ``images``."""
    one, other = classifier.logits(images).ravel(), CLASSIFIER.logits(images).ravel()
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


MIXED = FunctionClassifier(
    lambda images: CLASSIFIER.logits(images) + linear_classifier(seed=8).logits(images), (1, 4, 4), 3
)


@pytest.mark.parametrize(("shift", "refused"), [(-0.01, False), (0.01, True)])
def test_a_model_may_differ_as_much_as_the_pack_allows(tmp_path, shift, refused):
    similarity = cosine(MIXED, pack_for(CLASSIFIER).prototypes)
    assert 0.1 < similarity < 0.95
    pack = pack_for(CLASSIFIER, least_similarity=similarity + shift)
    if refused:
        with pytest.raises(NotAssessableError, match=f"similarity {similarity:.2f}, at least {similarity + shift:.2f}"):
            run(tmp_path, pack, MIXED)
    else:
        assert run(tmp_path, pack, MIXED).score is not None


@pytest.mark.parametrize(("shift", "runs"), [(-0.001, [2]), (0.001, [2, 3])])
def test_prototypes_are_asked_only_where_the_patterns_leave_doubt(tmp_path, shift, runs):
    counting = CountingClassifier(MIXED)
    pack = pack_for(CLASSIFIER, sure_similarity=cosine(MIXED, pack_for(CLASSIFIER).patterns) + shift)
    chosen, logits = choose_pack([pack], StandInSubject(counting))
    assert chosen is pack
    assert counting.runs == runs
    np.testing.assert_allclose(logits, MIXED.logits(pack.patterns), atol=1e-6)


class CountingClassifier:
    """A classifier that notes how many images each of its runs was given."""

    def __init__(self, classifier):
        self.input_shape, self.classes = classifier.input_shape, classifier.classes
        self._classifier = classifier
        self.runs = []

    def logits(self, images):
        self.runs.append(len(images))
        return self._classifier.logits(images)


@pytest.mark.parametrize("seed", [0, 2, 10])
def test_among_several_packs_the_one_of_the_task_is_chosen_in_one_run(tmp_path, monkeypatch, seed):
    sizes = {0: (2, 3), 2: (4, 2), 10: (3, 3)}
    packs = [
        pack_for(linear_classifier(seed=task), patterns=patterns, prototypes=prototypes, name=f"task {task}")
        for task, (patterns, prototypes) in sizes.items()
    ]
    for pack in packs:
        pack.save(tmp_path / f"{pack.name}.npz")
    monkeypatch.setattr(_find, "shipped_packs", lambda: sorted(tmp_path.glob("*.npz")))
    counting = CountingClassifier(linear_classifier(seed=seed))
    found = LitmusCheck().run(StandInSubject(counting), context(tmp_path))
    assert (found.evidence["pack"], found.evidence["patterns"]) == (f"task {seed}", sizes[seed][0])
    assert counting.runs == [9]
    alone = run(tmp_path, packs[list(sizes).index(seed)], linear_classifier(seed=seed))
    assert found.score == pytest.approx(alone.score, abs=1e-5)


def test_a_task_of_none_of_several_packs_is_not_judged():
    packs = [pack_for(linear_classifier(seed=task), name=f"task {task}") for task in (0, 2)]
    least = min(pack.least_similarity for pack in packs)
    stranger = linear_classifier(seed=7)
    similarities = [litmus_features(stranger.logits(pack.prototypes)) @ pack.prototype_template for pack in packs]
    assert max(similarities) < least
    closest = packs[int(np.argmax(similarities))].name
    with pytest.raises(NotAssessableError, match=closest):
        choose_pack(packs, StandInSubject(stranger))


@pytest.mark.parametrize("seed", [0, 2, 10])
def test_among_several_packs_prototypes_decide_where_the_patterns_leave_doubt(seed):
    packs = [
        pack_for(linear_classifier(seed=task), prototypes=size, name=f"task {task}", sure_similarity=1.0)
        for task, size in ((0, 3), (2, 2), (10, 4))
    ]
    noisy = FunctionClassifier(
        lambda images: linear_classifier(seed=seed).logits(images) + 0.1 * linear_classifier(seed=7).logits(images),
        (1, 4, 4),
        3,
    )
    counting = CountingClassifier(noisy)
    chosen, logits = choose_pack(packs, StandInSubject(counting))
    assert chosen.name == f"task {seed}"
    assert counting.runs == [6, 9]
    np.testing.assert_allclose(logits, noisy.logits(chosen.patterns), atol=1e-6)


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
