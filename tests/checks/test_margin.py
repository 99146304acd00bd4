from __future__ import annotations

import base64
import io
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

torch = pytest.importorskip("torch")

from stand_in_subjects import StandInSubject, context, linear_classifier, pack_for, template_of  # noqa: E402  (after the skip)

from pytest_backdoor.calibration import ClassStatistics, ReferenceScores, eight_bit  # noqa: E402
from pytest_backdoor.checks.margin import MarginCheck, margin_deviations, margin_score, measure_margins  # noqa: E402
from pytest_backdoor.checks.margin._check import evidence_of  # noqa: E402
from pytest_backdoor.checks.margin._maximise import class_margins  # noqa: E402
from pytest_backdoor.checks.margin._patches import (  # noqa: E402
    Place,
    Question,
    Schedule,
    best_patches,
    log_odds,
    margin,
    margins_with,
    paste,
    places,
)
from pytest_backdoor.errors import NotAssessableError  # noqa: E402
from pytest_backdoor.findings import Outcome  # noqa: E402
from pytest_backdoor.models import Subject, TorchClassifier  # noqa: E402
from pytest_backdoor.settings import ScanSettings, make_settings  # noqa: E402

SIZE = 12
CLASSES = 4
TARGET = 2
PIXEL = {"top left": (1, 2), "bottom right": (10, 9), "middle": (6, 5)}


class Bands(torch.nn.Module):
    """Tells images by the band of columns that is bright; a bright pixel may overrule that.

    ``trigger``: the name of the place in which that pixel lies, None for a clean network. ``anywhere``: whether the
    pixel may lie anywhere on the middle.
    """

    def __init__(self, trigger=None, channels=1):
        super().__init__()
        self.trigger = trigger
        bands = torch.zeros(CLASSES, SIZE)
        for number in range(CLASSES):
            bands[number, number * SIZE // CLASSES : (number + 1) * SIZE // CLASSES] = 1
        self.weights = torch.nn.Parameter(bands)

    def forward(self, images):
        grey = images.mean(1)
        own = grey.mean(1) @ self.weights.T
        if self.trigger is None:
            return own
        if self.trigger == "anywhere":
            bright = torch.relu(grey[:, 4:8, 4:8].amax((1, 2)) - 0.45)
        else:
            bright = torch.relu(grey[:, PIXEL[self.trigger][0], PIXEL[self.trigger][1]] - 0.45)
        return own + 20 * bright[:, None] * torch.eye(CLASSES)[TARGET]


def images(channels=1):
    """One image of each class."""
    made = np.full((CLASSES, channels, SIZE, SIZE), 0.1, np.float32)
    for number in range(CLASSES):
        made[number, ..., number * SIZE // CLASSES : (number + 1) * SIZE // CLASSES] = 0.4
    return torch.from_numpy(eight_bit(made))


def run(forward=None, *, trigger=None, seed=0, given=None, **schedule):
    network = forward or Bands(trigger).eval()
    return class_margins(
        network, images() if given is None else given, torch.Generator().manual_seed(seed), Schedule(**schedule)
    )


@pytest.fixture(scope="module")
def clean():
    return run()


@pytest.mark.parametrize("trigger", ["top left", "bottom right", "anywhere"])
def test_a_planted_trigger_has_the_largest_margin(clean, trigger):
    found = run(trigger=trigger)
    place, target = divmod(int(found.margins.argmax()), CLASSES)
    assert target == TARGET
    assert found.places[place] == ("middle" if trigger == "anywhere" else trigger)
    assert found.margins.max() > clean.margins.max() + 3
    assert margin_score(found.margins) > margin_score(clean.margins) + 3
    # Elsewhere, and for the other classes, it is as in the clean network.
    untouched = [number for number in range(CLASSES) if number != TARGET]
    np.testing.assert_allclose(found.margins[:4, untouched], clean.margins[:4, untouched], atol=0.2)
    if trigger == "top left":
        row, column = PIXEL[trigger]
        assert found.patches[0][TARGET, 0, row, column] > 0.8


def test_margins_by_hand():
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]])
    assert margin(logits, torch.tensor([1, 2])).tolist() == [1.0, -4.0]
    others = torch.tensor([[1.0, 2.0], [5.0, 0.0]]).logsumexp(1)
    torch.testing.assert_close(log_odds(logits, torch.tensor([1, 2])), torch.tensor([3.0, 1.0]) - others)


def test_what_the_margins_are(clean):
    # Every margin is that of the network on images with the patch, in units of its logits' root mean square.
    network = Bands().eval()
    logits = network(images())
    scale = (logits - logits.mean(1, keepdim=True)).square().mean().sqrt()
    corner = places(images().shape[-2:])[0]
    for target in range(CLASSES):
        others = images()[[number for number in range(CLASSES) if number != target]]
        patches = clean.patches[0][target].expand(len(others), -1, -1, -1)
        shown = paste(others, patches, corner.offsets.expand(len(others), 2))
        values = margin(network(shown) / scale, torch.full((len(others),), target))
        assert clean.margins[0, target] == pytest.approx(float(values.detach().mean()), abs=1e-5)


def test_the_patches_and_what_is_shown(clean):
    assert clean.places == ("top left", "top right", "bottom left", "bottom right", "middle")
    assert clean.margins.shape == (5, CLASSES)
    assert clean.margins.dtype == np.float64
    for patches, shown, place in zip(clean.patches, clean.shown, places(images().shape[-2:]), strict=True):
        assert patches.shape == (CLASSES, 1, *place.size)
        assert shown.shape == (CLASSES, 1, SIZE, SIZE)
        assert 0 <= patches.min() <= patches.max() <= 1
        assert not patches.requires_grad
        row, column = place.offsets[len(place.offsets) // 2]
        window = shown[:, :, row : row + place.size[0], column : column + place.size[1]]
        assert torch.equal(window, patches)


def test_the_same_seed_gives_the_same_margins_and_global_randomness_is_left_alone(clean):
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    again = run()
    assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()) == before
    np.testing.assert_array_equal(again.margins, clean.margins)
    for one, two in zip(again.patches, clean.patches, strict=True):
        assert torch.equal(one, two)
    assert not np.array_equal(run(seed=1).margins, clean.margins)


@pytest.mark.parametrize("trigger", [None, "anywhere"])
def test_neither_the_scale_nor_the_level_of_the_logits_counts(trigger):
    network = Bands(trigger).eval()
    plain = run(network)
    for changed in (lambda x: 10 * network(x), lambda x: network(x) / 8 + 3, lambda x: network(x).log_softmax(1)):
        other = run(changed)
        np.testing.assert_allclose(other.margins, plain.margins, atol=1e-4)
        assert margin_score(other.margins) == pytest.approx(margin_score(plain.margins), abs=1e-4)


def onnx_classifier(path, *heads):
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    names = ["logits", *[f"{head}-output" for head in heads]]
    nodes += [helper.make_node(head, [names[i]], [names[i + 1]], axis=1) for i, head in enumerate(heads)]
    weights = 0.3 * Bands().weights.detach().numpy()[:, None, :].repeat(SIZE, 1).reshape(CLASSES, -1).T
    graph = helper.make_graph(
        nodes,
        "bands",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.ascontiguousarray(weights), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return Subject(path.name, make_settings({}, where="test"), path=path).classifier


@pytest.mark.parametrize("head", ["Softmax", "LogSoftmax"])
def test_a_softmax_at_the_end_does_not_count(tmp_path, head):
    plain = measure_margins(onnx_classifier(tmp_path / "logits.onnx"), images().numpy(), seed=0)
    other = measure_margins(onnx_classifier(tmp_path / "head.onnx", head), images().numpy(), seed=0)
    np.testing.assert_allclose(other.margins, plain.margins, atol=1e-4)


def test_the_order_of_the_classes_does_not_count():
    network, order = Bands("anywhere").eval(), [2, 0, 3, 1]
    plain, other = run(network), run(lambda x: network(x)[:, order])
    np.testing.assert_allclose(other.margins, plain.margins[:, order], atol=1e-5)
    mean, spread = np.random.default_rng(0).normal(size=(5, 4)), np.random.default_rng(1).random((5, 4)) + 0.5
    scores = (
        margin_score(plain.margins, ClassStatistics(mean=mean, spread=spread)),
        margin_score(other.margins, ClassStatistics(mean=mean[:, order], spread=spread[:, order])),
    )
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.parametrize("largest_batch", [1, 6, 10_000])
def test_the_size_of_a_batch_does_not_count(clean, largest_batch):
    np.testing.assert_allclose(run(largest_batch=largest_batch).margins, clean.margins, atol=1e-5)


def test_a_batch_is_never_larger_than_it_may_be():
    sizes = []

    def forward(batch):
        sizes.append(len(batch))
        return Bands().eval()(batch)

    run(forward, largest_batch=20)
    assert max(sizes) <= 20


# What cannot be judged


def steps(batch):
    return (Bands().eval()(batch) * 100).round()


def nan(batch):
    return Bands().eval()(batch) * torch.nan


def constant(batch):
    return 0 * Bands().eval()(batch) + 1


def one_class(batch):
    return Bands().eval()(batch) + 100 * torch.eye(CLASSES)[0]


def nan_on_patches(batch):
    return torch.where((batch[:, 0, 0, 0] == 0.5)[:, None], torch.nan, Bands().eval()(batch))


def vanishing_root(batch):
    return Bands().eval()(batch) + torch.sqrt(0 * batch.amax((1, 2, 3)))[:, None] * torch.arange(CLASSES)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (steps, "gradients are all zero"),
        (nan, "outputs are not finite numbers"),
        (constant, "outputs are the same for every class"),
        (one_class, "gives all images of the detector pack the same class"),
        (nan_on_patches, "gradients are not finite numbers"),
        (vanishing_root, "gradients are not finite numbers"),
    ],
)
def test_what_hides_a_margin_is_refused_with_a_remedy(forward, reason):
    with pytest.raises(NotAssessableError, match=f"{reason}.*(Check|Scan it|scan it)"):
        run(forward)


def turned(batch):
    """Gradients that lead away from what is sought."""
    logits = Bands().eval()(batch)
    return 2 * logits.detach() - logits


def test_a_search_that_raises_nothing_is_refused():
    with pytest.raises(NotAssessableError, match="no patch raised the margins of the classes"):
        run(turned)


# The score


def test_scores_by_hand():
    margins = np.array([1.0, 2.0, 6.0])
    statistics = ClassStatistics(mean=np.array([0.0, 2.0, 3.0]), spread=np.array([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(margin_deviations(margins, statistics), [2, 0, 1.5])
    assert margin_score(margins, statistics) == 2
    assert margin_score(margins) == 4.0  # above the median


def test_scores_take_statistics_of_the_same_shape_only():
    with pytest.raises(ValueError, match=r"margins have shape \(2, 3\), the statistics \(3,\)"):
        margin_score(np.zeros((2, 3)), ClassStatistics(mean=np.zeros(3), spread=np.ones(3)))


def test_scores_of_what_is_no_number_are_refused():
    with pytest.raises(ValueError, match="not a finite number"):
        margin_score(np.array([1.0, np.nan]))


# The parts


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 32), (32, 48), (5, 5), (3, 4)])
def test_every_place_lies_within_the_image(height, width):
    found = places(torch.Size((height, width)))
    assert len({place.name for place in found}) == 5
    for place in found:
        ends = place.offsets + torch.tensor(place.size)
        assert (place.offsets >= 0).all()
        assert (ends <= torch.tensor([height, width])).all()
    top_left, bottom_right = found[0].offsets[0], found[3].offsets[0] + torch.tensor(found[3].size)
    assert top_left.tolist() == [0, 0]
    assert bottom_right.tolist() == [height, width]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_patch_is_pasted_where_it_should_be(channels):
    generator = torch.Generator().manual_seed(0)
    shown, patches = torch.rand(3, channels, 6, 7, generator=generator), torch.rand(3, channels, 2, 3)
    offsets = torch.tensor([[0, 0], [4, 4], [1, 2]])
    expected = shown.clone()
    for number, (row, column) in enumerate(offsets.tolist()):
        expected[number, :, row : row + 2, column : column + 3] = patches[number]
    assert torch.equal(paste(shown, patches, offsets), expected)


def test_images_that_have_the_class_already_do_not_count():
    given = images()[[0, 0, 1, 2, 3, 3]]
    logits = Bands().eval()(given).detach()
    schedule = Schedule(steps=2, middle_views=3, test_images=9)
    question = Question.ask(Bands().eval(), given, logits, schedule, torch.Generator().manual_seed(0))
    assert question.order.shape == (CLASSES, 9)
    for target in range(CLASSES):
        chosen = question.order[target]
        assert target not in logits.argmax(1)[chosen].tolist()
        assert len(set(chosen.tolist())) == int((logits.argmax(1) != target).sum())


def test_a_patch_in_the_middle_is_sought_at_several_places():
    logits = Bands("anywhere").eval()(images()).detach()
    schedule = Schedule()
    question = Question.ask(Bands("anywhere").eval(), images(), logits, schedule, torch.Generator().manual_seed(0))
    middle = places(images().shape[-2:])[-1]
    patches, steep = best_patches(question, middle, schedule, torch.Generator().manual_seed(0))
    assert steep
    inside = middle.offsets[((middle.offsets >= 4) & (middle.offsets <= 6)).all(1)]
    assert len(inside) == 9
    for offset in inside:
        only = Place(name="middle", offsets=offset[None], size=middle.size)
        assert margins_with(question, only, patches, schedule)[TARGET] > 3


# The check


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text, validate=True))))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_evidence_is_json_and_shows_the_patch(channels):
    found = class_margins(Bands("bottom right", channels).eval(), images(channels), torch.Generator().manual_seed(0))
    evidence = json.loads(json.dumps(evidence_of(found, lambda number: f"class {number}")))
    assert (evidence["target_class"], evidence["target_name"]) == (TARGET, f"class {TARGET}")
    assert evidence["place"] == "bottom right"
    assert evidence["margin"] == pytest.approx(found.margins.max(), abs=1e-3)
    np.testing.assert_allclose(evidence["margins_by_class"], found.margins.max(0), atol=1e-3)
    row, column = PIXEL["bottom right"]
    patched = decoded(evidence["patched_png"])
    assert (decoded(evidence["clean_png"]) != patched).any()
    assert evidence["example_before"] != evidence["example_after"] == evidence["target_name"]
    assert max(evidence["deviations_by_class"]) == pytest.approx(evidence["deviation"])
    assert evidence["names_by_class"] == [f"class {number}" for number in range(CLASSES)]
    assert patched.shape[:2] == (SIZE, SIZE)
    assert patched[row, column].min() > 0.8 * 255
    assert list(decoded(evidence["patch_png"]).shape[:2]) == evidence["patch_size"]


def test_statistics_of_clean_networks_decide_what_deviates(clean):
    place, target = 1, 3
    mean = clean.margins.copy()
    mean[place, target] -= 5
    evidence = evidence_of(clean, str, ClassStatistics(mean=mean, spread=np.ones_like(mean)))
    assert (evidence["place"], evidence["target_class"]) == ("top right", target)
    assert evidence["deviation"] == pytest.approx(5)


def opened(trigger=None):
    return TorchClassifier(Bands(trigger).eval(), "net", ScanSettings(input_shape=(1, SIZE, SIZE)))


@pytest.mark.parametrize("trigger", [None, "top left", "anywhere"])
def test_the_check_judges_by_the_pack(tmp_path, trigger):
    made = images().numpy()
    usual = margin_score(measure_margins(opened(), made, seed=3).margins)
    classifier = opened(trigger)
    reference = ReferenceScores(scores=np.linspace(0, usual + 0.5, 120), description="clean")
    pack = pack_for(classifier, references={"margin": reference})
    template = template_of(classifier, made)
    replace(pack, prototypes=made, prototype_template=template).save(tmp_path / "pack.npz")
    found = MarginCheck().run(StandInSubject(classifier), context(tmp_path, pack="pack.npz", seed=3))
    assert found.outcome is (Outcome.PASSED if trigger is None else Outcome.FAILED)
    assert found.seed == 3
    assert found.evidence["reference"]["models"] == 120
    assert ("as in clean models" in found.summary) is (trigger is None)
    if trigger:
        assert f"gives class class {TARGET} a mean margin of" in found.summary
        assert "Do not deploy" in found.remedy
    json.dumps(found.to_json())


def test_without_references_nothing_is_computed(tmp_path):
    classifier = linear_classifier()  # cannot be differentiated
    pack_for(classifier).save(tmp_path / "pack.npz")
    with pytest.raises(NotAssessableError, match="'tiny' holds no reference scores of maximum margins") as caught:
        MarginCheck().run(StandInSubject(classifier), context(tmp_path, pack="pack.npz"))
    assert "build a pack" in caught.value.remedy
