from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
from onnx_builders import save
from ramps import CLASSES, SIZE, prepared, ramp_images, ramp_model

from pytest_backdoor.errors import ModelError, NotAssessableError, SettingsError
from pytest_backdoor.models import Samples, Subject
from pytest_backdoor.models._conventions import CONVENTIONS, conventions_for, own_convention, same_meaning
from pytest_backdoor.models._inference import resolve
from pytest_backdoor.models._trial import Candidate, run_trials
from pytest_backdoor.settings import make_settings


@pytest.fixture
def opened(tmp_path):
    """A subject of a model, with images and labels (or none) as its clean samples."""

    def make(model, images, labels=None, **settings):
        np.savez(tmp_path / "data.npz", x=images, **({} if labels is None else {"y": labels}))
        path = save(tmp_path / "net.onnx", model)
        checked = make_settings({"data": "data.npz", **settings}, where="test")
        return Subject("net.onnx", checked, path=path, root=tmp_path)

    return make


def found_for(subject):
    assert subject.classifier.classes
    return subject.describe()["preprocessing"]


def parts_of(preprocessing):
    return {
        "layout": preprocessing.layout,
        "channel_order": preprocessing.channel_order,
        "input_range": [preprocessing.low, preprocessing.high],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


NAMED = [(convention, channels) for convention in CONVENTIONS for channels in (1, 3)]


@pytest.mark.parametrize(
    ("convention", "channels"),
    [(convention, channels) for convention, channels in NAMED if convention.channels in (None, channels)],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_convention_is_found_by_accuracy(opened, convention, channels):
    images, labels = ramp_images(channels)
    wanted = convention.applied_to(prepared())
    subject = opened(ramp_model(wanted, channels), images, labels)
    found = found_for(subject)
    assert {**found, **parts_of(wanted)} == found
    assert (found["origin"], found["samples"], found["note"]) == ("inferred", 200, "")
    assert found["accuracy"] > 0.95
    assert found["equally_good"] == []
    pixels = (images.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    assert (subject.classifier.logits(pixels).argmax(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mean_and_std_of_the_samples_are_found(opened, channels):
    images, labels = ramp_images(channels, 2000, 8, grey=True)
    images = (images * 0.4).astype(np.uint8)  # dark images, unlike those of any named convention
    wanted = own_convention((images.transpose(0, 3, 1, 2) / 255).astype(np.float32)).applied_to(prepared())
    matrix_of_dark = replace(wanted, high=0.4)
    found = found_for(opened(ramp_model(matrix_of_dark, channels, 8, grey=True), images, labels))
    assert found["origin"] == "inferred"
    assert found["mean"] == pytest.approx(wanted.mean, abs=0.02)
    assert found["std"] == pytest.approx(wanted.std, abs=0.02)
    assert found["accuracy"] > 0.9


@pytest.mark.parametrize(
    "wanted",
    [
        prepared(channel_order="BGR"),
        prepared(channel_order="BGR", low=-1.0),
        prepared(channel_order="BGR", mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229)),
    ],
)
def test_the_order_of_the_channels_is_found(opened, wanted):
    images, labels = ramp_images(3)
    model = ramp_model(wanted, 3)
    found = found_for(opened(model, images, labels))
    assert {**found, **parts_of(wanted)} == found
    assert found["accuracy"] > 0.95
    with pytest.raises(NotAssessableError, match="classifies only"):
        found_for(opened(model, images, labels, channel_order="RGB"))
    assert found_for(opened(model, images, labels, channel_order="BGR"))["channel_order"] == "BGR"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_layout_that_the_shape_leaves_open_is_found(opened, layout):
    images, labels = ramp_images(3)
    model = ramp_model(prepared(layout=layout, low=-1.0), 3, stated=("n", "a", "b", "c"))
    found = found_for(opened(model, images, labels, input_shape=[3, SIZE, SIZE]))
    assert (found["layout"], found["input_range"]) == (layout, [-1, 1])
    assert found["accuracy"] > 0.95


def test_without_samples_or_declaration_the_default_is_assumed(opened):
    images, labels = ramp_images()
    subject = opened(ramp_model(prepared()), images, labels, data=None)
    found = found_for(subject)
    assert (found["origin"], found["input_range"], found["samples"], found["accuracy"], found["note"]) == (
        "assumed",
        [0, 1],
        None,
        None,
        "",
    )


def test_a_subject_without_a_root_asks_no_samples(opened):
    images, labels = ramp_images()
    subject = opened(ramp_model(prepared(high=255.0)), images, labels)
    subject.root = None
    assert found_for(subject)["origin"] == "assumed"


@pytest.mark.parametrize(
    ("chosen", "labelled", "note"),
    [
        (slice(None), False, "have no labels"),
        (slice(9), True, "only 9 clean samples"),
        ("one class", True, "nearly all of one class"),
    ],
)
def test_samples_that_cannot_show_it_leave_the_default_in_doubt(opened, chosen, labelled, note):
    images, labels = ramp_images(count=400)
    if chosen == "one class":
        chosen = np.flatnonzero(labels == 3)
    subject = opened(ramp_model(prepared(high=255.0)), images[chosen], labels[chosen] if labelled else None)
    found = found_for(subject)
    assert (found["origin"], found["input_range"]) == ("assumed", [0, 1])
    assert note in found["note"]
    declared = opened(
        ramp_model(prepared()), images[chosen], labels[chosen] if labelled else None, input_range=[0, 255]
    )
    assert (found_for(declared)["origin"], found_for(declared)["note"]) == ("declared", "")


def test_no_convention_classifies_well(opened):
    images, labels = ramp_images()
    subject = opened(ramp_model(prepared(low=3.0, high=4.0)), images, labels)
    for _ in range(2):  # every check is told the same
        with pytest.raises(NotAssessableError, match=r"net\.onnx classifies only \d+% of 200 clean samples") as caught:
            _ = subject.classifier
        assert "even under the best of the usual preprocessings (input_range = " in str(caught.value)
        assert caught.value.remedy.startswith("Declare input_range, mean and std")
    described = subject.describe()
    assert described["task"]["classes"] == CLASSES
    assert described["preprocessing"] is None


def test_guessing_one_class_is_no_classifying(opened):
    images, labels = ramp_images(classes=2)
    common = np.concatenate([np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)[:20]])
    # Wants other images than any convention gives, so that it answers class 1 to all.
    subject = opened(ramp_model(prepared(low=-9.0, high=-8.0), classes=2), images[common], labels[common])
    with pytest.raises(NotAssessableError, match="which guessing would reach too"):
        _ = subject.classifier


@pytest.mark.parametrize(
    ("wanted", "declared", "remedy"),
    [
        ({"high": 255.0}, {"input_range": [0, 1]}, r"With input_range = \[0, 255\] it classifies \d+% of them"),
        ({"high": 255.0}, {"mean": [0.1], "std": [0.3]}, r"With input_range = \[0, 255\], without mean and std it "),
        ({}, {"input_range": [0, 255]}, r"With input_range = \[0, 1\] it classifies"),
        (
            {"mean": (0.1307,), "std": (0.3081,)},
            {"input_range": [-1, 1]},
            r"With input_range = \[0, 1\], mean = \[0\.1307\], std = \[0\.3081\] it classifies (9\d|100)% of them",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_and_the_right_one_named(opened, wanted, declared, remedy):
    images, labels = ramp_images()
    subject = opened(ramp_model(prepared(**wanted)), images, labels, **declared)
    with pytest.raises(NotAssessableError, match=r"classifies only \d+% of 200 clean samples of data\.npz") as caught:
        _ = subject.classifier
    assert "under the declared preprocessing, which is the wrong one" in str(caught.value)
    assert re.match(remedy, caught.value.remedy)


def test_a_wrong_channel_order_is_named_too(opened):
    images, labels = ramp_images(3)
    subject = opened(ramp_model(prepared(low=-1.0, channel_order="BGR"), 3), images, labels, input_range=[-1, 1])
    with pytest.raises(NotAssessableError) as caught:
        _ = subject.classifier
    assert 'input_range = [-1, 1], channel_order = "BGR" it classifies' in caught.value.remedy


def test_a_right_declaration_is_kept_with_its_accuracy(opened):
    images, labels = ramp_images()
    found = found_for(opened(ramp_model(prepared(high=7.0)), images, labels, input_range=[0, 7]))
    assert (found["origin"], found["input_range"], found["samples"]) == ("declared", [0, 7], 200)
    assert found["accuracy"] > 0.95


def test_labels_that_do_not_fit_the_model_are_a_wrong_setting(opened):
    images, labels = ramp_images()
    with pytest.raises(SettingsError, match="labels from"):
        _ = opened(ramp_model(prepared()), images, labels + 5).classifier


def test_the_same_samples_give_the_same_answer(opened):
    images, labels = ramp_images(count=1000)
    model = ramp_model(prepared(mean=(0.1307,), std=(0.3081,)))
    first = found_for(opened(model, images, labels, seed=3))
    assert first == found_for(opened(model, images, labels, seed=3))
    assert parts_of_report(first) == parts_of_report(found_for(opened(model, images, labels, seed=4)))


def parts_of_report(found):
    return {name: found[name] for name in ("origin", "input_range", "mean", "std")}


def test_images_in_whole_numbers_need_no_convention(opened):
    from onnx_builders import linear_model, weights

    shape = (1, SIZE, SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (100, *shape), dtype=np.uint8)
    labels = (pixels.reshape(100, -1) / 255 @ weights(shape)).argmax(axis=1)
    found = found_for(opened(linear_model(dtype="uint8", shape=shape), pixels, labels))
    assert (found["origin"], found["input_range"], found["accuracy"]) == ("graph", [0, 255], 1)
    with pytest.raises(NotAssessableError, match="classifies only"):
        found_for(opened(linear_model(dtype="uint8", shape=shape), pixels, (labels + 1) % 4))


SHAPE = (1, 4, 4)
NUMBERS = np.random.default_rng(0).integers(0, 10, 200)
PLAIN = Samples(images=np.random.default_rng(1).random((200, *SHAPE), dtype=np.float32), labels=NUMBERS)
NAMES = {convention.name: convention.applied_to(prepared()) for convention in conventions_for(PLAIN.images)}


class ScriptedModel:
    """An opened model that gets a stated number of the 200 samples right under each convention, 20 under others."""

    input_shape, classes, range_in_graph, layout_open = SHAPE, 10, False, False

    def __init__(self, right, preprocessing=NAMES["0 to 1"], strength=None):
        self.strength = {NAMES[name]: value for name, value in (strength or {}).items()}
        self.right = {NAMES.get(name, name): number for name, number in right.items()}
        self.preprocessing = preprocessing
        self.images_seen = 0

    def with_preprocessing(self, preprocessing):
        other = copy.copy(self)
        other.preprocessing = preprocessing
        other.first = getattr(self, "first", self)
        return other

    def logits(self, images):
        self.first.images_seen += len(images)
        if self.right.get(self.preprocessing) == "fails":
            raise ModelError("gives outputs that are not finite")
        numbers = np.array([np.flatnonzero((PLAIN.images == image).all(axis=(1, 2, 3)))[0] for image in images])
        # The right answers are spread evenly, so that a part of the samples shows them too.
        right = (numbers * 77) % 200 < self.right.get(self.preprocessing, 20)
        return (
            self.strength.get(self.preprocessing, 1)
            * np.eye(10, dtype=np.float32)[np.where(right, NUMBERS[numbers], (NUMBERS[numbers] + 1) % 10)]
        )


def outcome(right, strength=None, **settings):
    checked = make_settings({"data": "data.npz", **settings}, where="test")
    declared = checked.input_range or (0.0, 1.0)
    model = ScriptedModel(right, prepared(low=declared[0], high=declared[1]), strength)
    found = resolve(model, checked, PLAIN, "net")
    (name,) = [name for name, each in NAMES.items() if each == found.preprocessing] or ["another"]
    return name, found


@pytest.mark.parametrize(
    ("right", "name", "equally_good"),
    [
        ({"0 to 1": 190}, "0 to 1", ()),
        ({"0 to 1": 186, "0 to 255": 190}, "0 to 1", ("0 to 255",)),  # within two in a hundred
        ({"0 to 1": 185, "0 to 255": 190}, "0 to 255", ()),
        ({"0 to 1": 100, "0 to 255": 190, "-1 to 1": 190}, "0 to 255", ("-1 to 1",)),
        ({"0 to 255": 188, "-1 to 1": 190}, "-1 to 1", ("0 to 255",)),
        ({"0 to 255": 100, "0 to 1": 99}, "0 to 1", ("0 to 255",)),
        ({"0 to 255": "fails", "0 to 1": 150}, "0 to 1", ()),
        ({"0 to 1": "fails", "0 to 255": 150}, "0 to 255", ()),
    ],
)
def test_the_best_is_taken_and_the_default_where_it_is_as_good(right, name, equally_good):
    if right == {"0 to 255": 100, "0 to 1": 99}:  # too few, though close to the best
        name, equally_good = "0 to 255", ()
    chosen, found = outcome(right)
    assert (chosen, found.equally_good) == (name, equally_good)
    assert found.origin == "inferred"
    assert found.accuracy == right[name] / 200


@pytest.mark.parametrize(
    ("strength", "name", "equally_good"),
    [
        ({"0 to 1": 6, "mean": 6}, "0 to 1", ("mean",)),
        ({"0 to 1": 1.5, "mean": 6}, "mean", ()),  # the logits of the default are too small
        ({"0 to 1": 6, "mean": 300}, "0 to 1", ()),  # those of the other are too large where it errs
        ({"0 to 1": 4.5, "mean": 6}, "0 to 1", ("mean",)),  # not clearly
    ],
)
def test_of_equal_accuracies_the_clearly_lower_loss_is_taken(strength, name, equally_good):
    mean = "mean and std of the samples"
    strength = {(mean if key == "mean" else key): value for key, value in strength.items()}
    chosen, found = outcome({"0 to 1": 196, mean: 196}, strength)
    assert chosen == (mean if name == "mean" else name)
    assert found.equally_good == tuple(mean for _ in equally_good)


@pytest.mark.parametrize("right", [{}, {"0 to 1": 99, "0 to 255": 99}])
def test_half_of_the_samples_is_the_least(right):
    with pytest.raises(NotAssessableError, match="classifies only"):
        outcome(right)


@pytest.mark.parametrize(
    ("own", "other", "kept"), [(190, 200, True), (110, 130, True), (150, 190, False), (90, 20, False)]
)
def test_a_declaration_is_refused_where_another_is_clearly_better(own, other, kept):
    right = {"-1 to 1": own, "0 to 255": other}
    if kept:
        chosen, found = outcome(right, input_range=[-1, 1])
        assert (chosen, found.origin, found.accuracy) == ("-1 to 1", "declared", own / 200)
    else:
        with pytest.raises(NotAssessableError, match=f"classifies only {own / 200:.0%}"):
            outcome(right, input_range=[-1, 1])


def test_hopeless_conventions_are_not_tried_on_all_samples():
    names = list(NAMES)
    model = ScriptedModel({names[0]: 20, names[1]: 190})
    candidates = [Candidate(name=name, preprocessing=NAMES[name]) for name in names]
    trials = run_trials(model, candidates, PLAIN)
    assert [trial.candidate.name for trial in trials] == names[:2]  # the first is always tried
    assert [trial.accuracy for trial in trials] == [0.1, 0.95]
    assert model.images_seen == 50 * len(names) + 2 * 150


def test_kappa_is_that_of_cohen():
    samples = Samples(images=PLAIN.images, labels=np.where(np.arange(200) < 180, 1, 0))
    model = ScriptedModel({})
    model.logits = lambda images: np.tile(np.float32([0, 1]), (len(images), 1))
    model.classes = 2
    model.with_preprocessing = lambda preprocessing: model
    (trial,) = run_trials(model, [Candidate(name="x", preprocessing=prepared())], samples)
    assert (trial.accuracy, trial.kappa, trial.fits) == (0.9, pytest.approx(0), False)


def test_what_a_model_can_hardly_tell_apart():
    named = {convention.name: convention.applied_to(prepared()) for convention in CONVENTIONS}
    assert same_meaning(named["ImageNet mean and std"], named["CIFAR-10 mean and std"])
    assert same_meaning(named["0 to 1"], prepared(low=0.1, high=1.1))
    for first in ("0 to 1", "0 to 255", "-1 to 1", "MNIST mean and std"):
        for second in ("0 to 1", "0 to 255", "-1 to 1", "MNIST mean and std", "ImageNet mean and std"):
            assert same_meaning(named[first], named[second]) == (first == second)
    assert not same_meaning(named["0 to 1"], replace(named["0 to 1"], channel_order="BGR"))
    assert not same_meaning(named["0 to 1"], replace(named["0 to 1"], layout="NHWC"))


def test_a_constant_channel_can_be_normalised():
    assert own_convention(np.zeros((3, 1, 4, 4), np.float32)).std == (0.001,)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_torch_and_numpy_prepare_bgr_images_alike(layout):
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    used = prepared(layout=layout, channel_order="BGR", high=255.0, mean=(1.0, 2.0, 3.0), std=(2.0, 1.0, 4.0))
    values = used.for_numpy(images)
    np.testing.assert_allclose(used.for_torch(torch.from_numpy(images)).numpy(), values, rtol=1e-6)
    first = values[:, 0] if layout == "NCHW" else values[..., 0]
    np.testing.assert_allclose(first, (images[:, 2] * 255 - 1) / 2, rtol=1e-5)


def test_one_channel_has_no_order(opened):
    images, labels = ramp_images()
    with pytest.raises(ModelError, match="cannot be in the order BGR"):
        _ = opened(ramp_model(prepared()), images, labels, channel_order="BGR").classifier
