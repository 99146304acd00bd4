from __future__ import annotations

import base64
import io
import json
import math
import random

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from stand_in_subjects import StandInSubject, context, linear_classifier, pack_for  # noqa: E402  (after the skip)

from pytest_backdoor.checks.reversal import ReversalCheck, reverse  # noqa: E402
from pytest_backdoor.checks.reversal._check import Reversal, anomaly_index, draw, encode_png, evidence_of  # noqa: E402
from pytest_backdoor.checks.reversal._images import (  # noqa: E402
    HELD_OUT_PER_CLASS,
    PER_CLASS,
    ReversalImages,
    from_samples,
    stand_ins,
    to_pixels,
)
from pytest_backdoor.checks.reversal._optimise import (  # noqa: E402
    AGNOSTIC,
    ReversedTrigger,
    Schedule,
    _Arms,
    _require_usable,
    reverse_triggers,
)
from pytest_backdoor.errors import NotAssessableError  # noqa: E402
from pytest_backdoor.findings import Outcome  # noqa: E402
from pytest_backdoor.models import Samples, TorchClassifier  # noqa: E402
from pytest_backdoor.settings import ScanSettings  # noqa: E402

SIZE = 10
PIXEL = (8, 6)
TARGET = 2


class Stripes(torch.nn.Module):
    """Tells images by the band of rows that is bright; a bright pixel in a corner may overrule that.

    ``backdoor``: None, "targeted" (the pixel makes everything ``TARGET``) or "all-to-all" (class i becomes i + 1).
    """

    def __init__(self, classes=4, channels=1, backdoor=None, strength=30.0):
        super().__init__()
        self.classes = classes
        self.backdoor = backdoor
        self.strength = strength
        bands = torch.zeros(classes, SIZE - 2)
        for number in range(classes):
            bands[number, number * (SIZE - 2) // classes : (number + 1) * (SIZE - 2) // classes] = 1
        self.weights = torch.nn.Parameter(bands / bands.sum(1, keepdim=True))

    def forward(self, images):
        grey = images.mean(1)
        own = 20 * grey[:, : SIZE - 2, :].mean(2) @ self.weights.T
        if self.backdoor is None:
            return own
        bright = torch.relu(grey[:, PIXEL[0], PIXEL[1], None] - 0.25)
        if self.backdoor == "targeted":
            return own + self.strength * bright * torch.eye(self.classes)[TARGET]
        return own + self.strength * bright * own.softmax(1).roll(1, 1)


def classifier(classes=4, channels=1, **options):
    network = Stripes(classes, channels, **options).eval()
    return TorchClassifier(network, "net", ScanSettings(input_shape=(channels, SIZE, SIZE)))


def samples(classes=4, channels=1, per_class=10, labelled=True):
    rng = np.random.default_rng(4)
    images = rng.random((classes * per_class, channels, SIZE, SIZE), dtype=np.float32) * 0.2
    labels = np.repeat(np.arange(classes), per_class)
    for image, label in zip(images, labels, strict=True):
        image[:, label * (SIZE - 2) // classes : (label + 1) * (SIZE - 2) // classes] += 0.6
    return Samples(images=images, labels=labels if labelled else None)


def run(*, classes=4, channels=1, seed=0, given=None, schedule=None, **options):
    return reverse(
        classifier(classes, channels, **options),
        given or samples(classes, channels),
        seed=seed,
        schedule=schedule,
    )


@pytest.fixture(scope="module")
def backdoored():
    return run(backdoor="targeted")


@pytest.fixture(scope="module")
def clean():
    return run()


@pytest.mark.parametrize("options", [{}, {"channels": 3}, {"classes": 3}, {"seed": 5}])
def test_a_known_trigger_is_found(options):
    found = run(backdoor="targeted", **options)
    trigger = found.smallest
    position = found.triggers.index(trigger)
    assert trigger.target == TARGET
    assert trigger.size < 4
    assert trigger.success >= 0.95
    assert found.held_out_success[position] >= 0.95
    mask = trigger.mask[0]
    assert divmod(int(mask.argmax()), SIZE) == PIXEL
    assert mask[PIXEL] > 0.5
    assert mask[PIXEL] > 0.5 * mask.sum()
    assert trigger.pattern[:, *PIXEL].mean() > 0.7
    assert trigger.size == pytest.approx(float(mask.sum()), rel=1e-4)


def test_a_clean_model_scores_lower(backdoored, clean):
    assert backdoored.score > clean.score + 1
    assert clean.smallest.size > 3 * backdoored.smallest.size
    assert backdoored.score == pytest.approx(math.log(SIZE * SIZE / min(t.size for t in backdoored.triggers)))


def test_an_all_to_all_backdoor_is_found_by_the_agnostic_arm():
    found = run(backdoor="all-to-all")
    agnostic = found.triggers[-1]
    assert agnostic.target == AGNOSTIC
    assert found.smallest is agnostic
    assert divmod(int(agnostic.mask.argmax()), SIZE) == PIXEL
    assert agnostic.size < 4
    assert found.held_out_success[-1] >= 0.7
    evidence = evidence_of(found, str)
    assert evidence["target_class"] is None
    assert evidence["target_name"] is None
    assert evidence["flipped_of"] == len(found.images.held_out)


def test_every_class_has_an_arm_and_the_agnostic_one_is_last(backdoored):
    assert [trigger.target for trigger in backdoored.triggers] == [0, 1, 2, 3, AGNOSTIC]
    for trigger in backdoored.triggers:
        assert trigger.mask.shape == (1, SIZE, SIZE)
        assert trigger.pattern.shape == (1, SIZE, SIZE)
        for part in (trigger.mask, trigger.pattern):
            assert not part.requires_grad
            assert 0 <= part.min() <= part.max() <= 1


def test_the_same_seed_gives_the_same_triggers_and_global_randomness_is_left_alone(backdoored):
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    again = run(backdoor="targeted")
    other = run(backdoor="targeted", seed=1)
    assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()) == before
    for one, two in zip(backdoored.triggers, again.triggers, strict=True):
        assert torch.equal(one.mask, two.mask)
        assert torch.equal(one.pattern, two.pattern)
    assert backdoored.held_out_success == again.held_out_success
    assert not torch.equal(backdoored.smallest.mask, other.smallest.mask)


def test_stand_ins_take_the_place_of_samples():
    found = reverse(classifier(backdoor="targeted"), None, seed=0)
    assert found.images.source == "stand-ins"
    assert found.smallest.target == TARGET
    assert divmod(int(found.smallest.mask.argmax()), SIZE) == PIXEL


def test_two_classes_have_three_arms():
    found = run(classes=2, schedule=Schedule(first_steps=3, second_steps=3))
    assert [trigger.target for trigger in found.triggers] == [0, 1, AGNOSTIC]


def test_a_search_without_any_success_is_not_assessable():
    with pytest.raises(NotAssessableError, match="No trigger of any size was found"):
        run(schedule=Schedule(first_steps=2, second_steps=2, learning_rate=1e-6))


# The parts


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (samples(per_class=0), "of the samples only 0"),
        (Samples(images=samples().images[:10], labels=samples().labels[:10]), r"in 1 class\(es\)"),
        (samples(per_class=1), "only 4 are classified as they should be"),
        (Samples(images=samples().images, labels=(samples().labels + 1) % 4), "of the samples only 0"),
    ],
)
def test_too_few_images_are_not_assessable(given, reason):
    if not len(given):
        given = Samples(images=np.zeros((1, 1, SIZE, SIZE), np.float32), labels=np.array([3]))
    with pytest.raises(NotAssessableError, match=rf"{reason}.* Give more clean samples with --backdoor-data"):
        run(given=given)


@pytest.mark.parametrize("labelled", [True, False])
def test_images_are_drawn_evenly_and_held_out_ones_apart(labelled):
    given = samples(labelled=labelled)
    chosen = from_samples(classifier(), given, torch.Generator().manual_seed(0))
    assert chosen.labels.bincount().tolist() == [PER_CLASS] * 4
    assert chosen.held_out_labels.bincount().tolist() == [HELD_OUT_PER_CLASS] * 4
    parts = {image.numpy().tobytes() for image in chosen.images}, {image.numpy().tobytes() for image in chosen.held_out}
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] <= {image.tobytes() for image in given.images}
    known = {image.tobytes(): label for image, label in zip(given.images, samples().labels, strict=True)}
    assert [known[image.numpy().tobytes()] for image in chosen.images] == chosen.labels.tolist()


def test_samples_that_the_model_gets_wrong_are_left_out():
    given = samples()
    wrong = given.labels.copy()
    wrong[:6] = 3
    chosen = from_samples(classifier(), Samples(images=given.images, labels=wrong), torch.Generator().manual_seed(0))
    used = {image.numpy().tobytes() for image in torch.cat([chosen.images, chosen.held_out])}
    assert not used & {image.tobytes() for image in given.images[:6]}


def test_stand_ins_are_what_the_model_takes_for_each_class():
    opened = classifier()
    made = stand_ins(opened.differentiable("cpu"), (1, SIZE, SIZE), 4, torch.Generator().manual_seed(0), "cpu")
    np.testing.assert_array_equal(opened.logits(made.images.numpy()).argmax(axis=1), made.labels.numpy())
    assert set(made.labels.tolist()) == {0, 1, 2, 3}
    assert 0 <= made.images.min() <= made.images.max() <= 1
    assert not made.images.requires_grad


def search(forward):
    given = samples(per_class=3)
    images, labels = torch.from_numpy(given.images), torch.from_numpy(given.labels)
    return reverse_triggers(forward, images, labels, 4, Schedule(), torch.Generator().manual_seed(0))


class Broken(torch.nn.Module):
    """Logits that are ``spoil``ed."""

    def __init__(self, spoil):
        super().__init__()
        self.net = Stripes()
        self.spoil = spoil

    def forward(self, images):
        return self.spoil(self.net(images), images)


def vanishing_root(logits, images):
    return logits + torch.sqrt(0 * images.amax((1, 2, 3)))[:, None]


def steps(logits, images):
    return (logits * 100).round()


def nan_in_the_middle(logits, images):
    return torch.where(images.mean((1, 2, 3))[:, None] > 0.3, torch.nan, logits)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(vanishing_root, "not finite numbers"), (steps, "all zero"), (nan_in_the_middle, "not finite numbers")],
)
def test_hidden_gradients_do_not_count_as_no_trigger(spoil, reason):
    # A search that cannot move finds nothing in a backdoored model either.
    with pytest.raises(NotAssessableError, match=f"outputs or gradients are {reason}"):
        search(Broken(spoil).eval())


def test_certain_answers_do_not_count_as_hidden_gradients():
    value, none, some = torch.ones(()), torch.zeros(2, 2), torch.eye(2)
    _require_usable(value, some, none, first=False)
    _require_usable(value, none, some, first=True)
    with pytest.raises(NotAssessableError, match="all zero"):
        _require_usable(value, some, none, first=True)


def started(schedule=None):
    images = torch.from_numpy(samples(per_class=3).images)
    return _Arms.start(4, images, schedule or Schedule(), torch.Generator().manual_seed(0)), images


def descend(arms, images, steps):
    labels = torch.from_numpy(samples(per_class=3).labels)
    arms.descend(Stripes(backdoor="targeted").eval(), images, labels, Schedule(), steps)


def test_arms_go_on_after_a_selection_as_if_nothing_had_happened():
    whole, images = started()
    selected, _ = started()
    for arms in (whole, selected):
        descend(arms, images, 6)
    kept = torch.tensor([len(whole.targets) - 1, 2, 0])
    selected._select(kept)
    for arms in (whole, selected):
        descend(arms, images, 6)
    assert selected.targets.tolist() == [AGNOSTIC, 2, 0]
    for name in ("mask_logits", "pattern_logits", "weight", "best_size", "best_success", "best_mask", "loss_trend"):
        torch.testing.assert_close(getattr(selected, name), getattr(whole, name)[kept], msg=name)


@pytest.mark.parametrize("survivors", [1, 2, 4, 9])
def test_the_smallest_arms_and_the_agnostic_one_survive(survivors):
    arms, images = started()
    descend(arms, images, 1)
    agnostic = arms.targets.tolist().count(AGNOSTIC)
    area = float(SIZE * SIZE)
    arms.best_size = torch.tensor([area, 30.0, 5.0, area, *[area] * agnostic])
    arms.loss_trend = torch.tensor([0.5, 0.0, 9.0, 0.2, *[7.0] * agnostic])
    dropped = arms.drop_all_but(survivors)
    # The successful by size, then the others by their trend.
    order = [2, 1, 3, 0]
    assert arms.targets.tolist() == [*[AGNOSTIC] * agnostic, *order[:survivors]]
    assert [trigger.target for trigger in dropped] == order[survivors:]
    assert [trigger.size for trigger in dropped] == [[5.0, 30.0, area, area][i] for i in range(survivors, 4)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1.0, 5.0, 6.0, 7.0, 9.0], 5 / 1.4826),  # median 6; deviations 5, 1, 0, 1, 3, of which the median is 1
        ([2.0, 4.0, 6.0, 10.0], 3 / (1.4826 * 2)),  # median 5; deviations 3, 1, 1, 5, of which the median is 2
        ([4.0, 4.0, 4.0, 1.0], None),
        ([3.0], None),
        ([3.0, 3.0], None),
    ],
)
def test_the_anomaly_index_by_hand(sizes, expected):
    assert anomaly_index(sizes) == (None if expected is None else pytest.approx(expected))


def trigger_of(mask, pattern, target=1):
    return ReversedTrigger(target=target, mask=mask[None], pattern=pattern, size=float(mask.sum()), success=1.0)


def test_a_trigger_is_pasted_over_the_image():
    mask = torch.zeros(2, 2)
    mask[0, 1] = 0.25
    pasted = trigger_of(mask, torch.full((3, 2, 2), 0.8)).apply(torch.full((1, 3, 2, 2), 0.4))
    assert pasted[0, :, 0, 1].tolist() == pytest.approx([0.5] * 3)
    assert pasted[0, :, 1].flatten().tolist() == pytest.approx([0.4] * 6)


def test_the_smallest_trigger_prefers_a_target_unless_the_agnostic_one_is_half_as_large():
    nothing = torch.zeros(0)
    images = ReversalImages(images=nothing, labels=nothing, held_out=nothing, held_out_labels=nothing, source="samples")
    for agnostic, expected in ((3.0, 0), (2.0, 0), (1.9, AGNOSTIC)):
        triggers = [
            ReversedTrigger(target=t, mask=torch.zeros(1, 4, 4), pattern=torch.zeros(1, 4, 4), size=size, success=1.0)
            for t, size in ((0, 4.0), (1, 9.0), (AGNOSTIC, agnostic))
        ]
        found = Reversal(triggers=triggers, images=images, held_out_success=[1, 1, 1])
        assert found.smallest.target == expected
        assert found.score == pytest.approx(math.log(16 / min(4.0, agnostic)))


def test_a_drawing_shows_the_covered_part():
    mask, pattern = torch.zeros(6, 6), torch.zeros(1, 6, 6)
    for column, brightness in enumerate((0.0, 0.3, 0.5, 0.7, 1.0)):
        mask[1, column] = 0.9
        pattern[0, 1, column] = brightness
    mask[3, 2] = 0.21
    mask[5, 5] = 0.19
    assert draw(trigger_of(mask, pattern)) == ["rows 1 to 3, columns 0 to 4", "·░▒▓█", "     ", "  ·  "]
    assert draw(trigger_of(mask, pattern), widest=4) == []
    assert draw(trigger_of(mask * 0, pattern)) == []


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text, validate=True))))


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 5)), (2, (4, 5)), (3, (4, 5, 3)), (4, (4, 5, 3))])
def test_pictures_can_be_decoded_again(channels, shape):
    image = torch.rand(channels, 4, 5, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    pixels = to_pixels(image)
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    expected = np.rint(image.clamp(0, 1).numpy().transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(pixels.reshape(4, 5, -1), expected[..., : 3 if channels > 2 else 1])
    np.testing.assert_array_equal(decoded(encode_png(pixels)), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_evidence_is_json_and_shows_the_trigger(channels):
    found = run(channels=channels, backdoor="targeted")
    evidence = json.loads(json.dumps(evidence_of(found, lambda number: f"class {number}")))
    assert (evidence["target_class"], evidence["target_name"]) == (TARGET, f"class {TARGET}")
    assert evidence["image_area"] == SIZE * SIZE
    assert evidence["flipped_of"] == 3 * HELD_OUT_PER_CLASS
    assert evidence["flipped"] >= 0.95
    assert len(evidence["sizes_by_class"]) == 4
    assert evidence["mask_size"] == pytest.approx(min(evidence["sizes_by_class"]), abs=0.01)
    assert evidence["trigger_drawing"][0] == f"rows {PIXEL[0]} to {PIXEL[0]}, columns {PIXEL[1]} to {PIXEL[1]}"
    mask = decoded(evidence["mask_png"])
    assert np.unravel_index(mask.argmax(), mask.shape) == PIXEL
    for name in ("trigger_png", "triggered_png"):
        assert decoded(evidence[name]).shape[:2] == (SIZE, SIZE)


def test_the_check_judges_by_the_pack_of_the_model_s_task(tmp_path, monkeypatch):
    from pytest_backdoor.calibration import ReferenceScores, _find

    opened = classifier()
    stranger = linear_classifier(opened.input_shape, opened.classes, seed=1)
    for name, owner in (("a-stranger", stranger), ("b-own", opened)):
        reference = ReferenceScores(scores=np.linspace(0, 9, 120), description=name)
        pack_for(owner, name=name, references={"reversal-samples": reference}).save(tmp_path / f"{name}.npz")
    monkeypatch.setattr(_find, "shipped_packs", lambda: sorted(tmp_path.glob("?-*.npz")))
    given = samples()
    np.savez(tmp_path / "data.npz", x=given.images, y=given.labels)
    found = ReversalCheck().run(StandInSubject(opened), context(tmp_path, data="data.npz"))
    assert found.evidence["reference"]["description"] == "b-own"


@pytest.mark.parametrize(
    ("options", "outcome", "words"),
    [
        ({"backdoor": "targeted"}, Outcome.FAILED, "into class class 2."),
        ({"backdoor": "all-to-all"}, Outcome.FAILED, "for no single target class."),
        ({}, Outcome.PASSED, "The smallest trigger found covers"),
    ],
)
def test_the_check_judges_by_the_pack(tmp_path, clean, options, outcome, words):
    from pytest_backdoor.calibration import ReferenceScores

    opened = classifier(**options)
    reference = ReferenceScores(scores=np.linspace(0, clean.score + 0.5, 120), description="clean")
    pack_for(opened, references={"reversal-samples": reference}).save(tmp_path / "pack.npz")
    given = samples()
    np.savez(tmp_path / "data.npz", x=given.images, y=given.labels)
    found = ReversalCheck().run(StandInSubject(opened), context(tmp_path, pack="pack.npz", data="data.npz", seed=3))
    assert found.outcome is outcome
    assert words in found.summary
    assert found.seed == 3
    assert found.evidence["reference"]["models"] == 120
    json.dumps(found.to_json())
