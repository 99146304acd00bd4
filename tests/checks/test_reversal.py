from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stand_in_subjects import (  # noqa: E402  (after the skip)
    StandInSubject,
    context,
    linear_classifier,
    pack_for,
    template_of,
)
from stripes import PIXEL, SIZE, SOURCE, TARGET, Stripes, classifier, run, samples  # noqa: E402

from pytest_backdoor.calibration import ReferenceScores, eight_bit  # noqa: E402
from pytest_backdoor.checks.reversal import (  # noqa: E402
    ReversalCheck,
    component,
    fit_statistics,
    held_out_scores,
    reverse,
)
from pytest_backdoor.checks.reversal._search import AGNOSTIC  # noqa: E402
from pytest_backdoor.errors import NotAssessableError, NotDifferentiableError  # noqa: E402
from pytest_backdoor.findings import Outcome  # noqa: E402
from pytest_backdoor.models import Samples, TorchClassifier  # noqa: E402
from pytest_backdoor.settings import DEFAULT_FAMILIES, ScanSettings  # noqa: E402

CLEAN = 8


@pytest.fixture(scope="module")
def clean_margins():
    found = [
        run(jitter=jitter, seed=jitter, families=("patch", "source-patch")).found for jitter in range(1, CLEAN + 1)
    ]
    return {name: np.stack([one[name].margins.numpy() for one in found]) for name in found[0]}


@pytest.fixture(scope="module")
def statistics(clean_margins):
    return {name: fit_statistics(margins) for name, margins in clean_margins.items()}


@pytest.mark.parametrize("options", [{}, {"channels": 3}, {"classes": 3}, {"seed": 5}])
def test_a_known_trigger_is_found(options):
    found = run(backdoor="targeted", **options)
    score = found.scores()["patch"]
    assert found.target_of("patch", score) == TARGET
    assert found.found["patch"].family.labels[score.slot] == "rows 8 to 9, columns 6 to 7"
    assert found.found["patch"].success[score.slot, score.arm] == 1
    trigger = found.smallest("patch", score)
    assert trigger.target == TARGET
    assert trigger.size < 3
    assert trigger.success >= 0.95
    assert divmod(int(trigger.mask[0].argmax()), SIZE) == PIXEL
    assert trigger.pattern[:, *PIXEL].mean() > 0.7
    assert trigger.size == pytest.approx(float(trigger.mask.sum()), rel=1e-4)


def test_a_clean_model_scores_lower(statistics, clean_margins):
    clean = run(jitter=CLEAN + 1)
    backdoored = run(backdoor="targeted", jitter=CLEAN + 1)
    assert backdoored.score > clean.score + 1
    references = held_out_scores(clean_margins["patch"])
    assert clean.scores(statistics)["patch"].value < references.max() + 2 * references.std()
    assert backdoored.scores(statistics)["patch"].value > references.max() + 5 * references.std()


def test_an_all_to_all_backdoor_is_found_by_the_agnostic_arm(statistics):
    found = run(backdoor="all-to-all")
    score = found.scores(statistics)["patch"]
    assert found.target_of("patch", score) == AGNOSTIC
    trigger = found.smallest("patch", score)
    assert divmod(int(trigger.mask[0].argmax()), SIZE) == PIXEL
    assert trigger.success >= 0.7


def test_a_source_specific_backdoor_is_found_by_arms_for_single_sources(statistics, clean_margins):
    found = run(backdoor="source", families=("source-patch",))
    score = found.scores(statistics)["source-patch"]
    assert found.target_of("source-patch", score) == TARGET
    assert found.found["source-patch"].success[score.slot, score.arm] == 1
    assert score.value > held_out_scores(clean_margins["source-patch"]).max()
    labels = found.images.held_out_labels
    with torch.no_grad():
        turned = found.forward(found.triggered("source-patch", score, found.images.held_out)).argmax(1)
    assert (turned[labels == SOURCE] == TARGET).all()


def test_every_class_has_an_arm_and_the_agnostic_one_is_last():
    found = run(backdoor="targeted", families=DEFAULT_FAMILIES).found
    assert list(found) == list(DEFAULT_FAMILIES)
    for searched in found.values():
        assert searched.targets.tolist() == [0, 1, 2, 3, AGNOSTIC]
        shape = len(searched.family.labels), 5
        assert searched.margins.shape == searched.success.shape == searched.parameters.shape[:2] == shape
        assert not searched.parameters.requires_grad
        assert 0 <= searched.success.min() <= searched.success.max() <= 1


def test_the_same_seed_gives_the_same_triggers_and_global_randomness_is_left_alone():
    first = run(backdoor="targeted")
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    again = run(backdoor="targeted")
    other = run(backdoor="targeted", seed=1)
    assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()) == before
    assert torch.equal(first.found["patch"].parameters, again.found["patch"].parameters)
    assert torch.equal(first.found["patch"].margins, again.found["patch"].margins)
    assert not torch.equal(first.found["patch"].parameters, other.found["patch"].parameters)


def test_what_a_family_finds_does_not_depend_on_the_others():
    alone = run(families=("blend",)).found["blend"]
    among = run(families=("patch", "wave", "blend")).found["blend"]
    assert torch.equal(alone.margins, among.margins)


def test_a_class_more_in_front_changes_nothing_for_the_others():
    # Costs and masks that are carried from class to class make results depend on the order of the classes.
    class Reordered(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Stripes(backdoor="targeted")

        def forward(self, images):
            return self.net(images)[:, [3, 2, 1, 0]]

    opened = TorchClassifier(Reordered().eval(), "net", ScanSettings(input_shape=(1, SIZE, SIZE)))
    given = samples()
    turned = Samples(images=given.images, labels=3 - given.labels)
    # The order of the images decides rounding alone; their choice depends on the classes' names.
    found, expected = reverse(opened, turned, seed=0, families=("patch",)), run(backdoor="targeted")
    best, known = found.scores()["patch"], expected.scores()["patch"]
    assert (best.slot, 3 - best.arm) == (known.slot, known.arm)
    assert best.value == pytest.approx(known.value, rel=0.2)


def test_longer_training_does_not_change_the_score():
    class Louder(Stripes):
        def forward(self, images):
            return 7 * super().forward(images)

    opened = TorchClassifier(Louder(backdoor="targeted").eval(), "net", ScanSettings(input_shape=(1, SIZE, SIZE)))
    assert reverse(opened, samples(), seed=0, families=("patch",)).score == pytest.approx(
        run(backdoor="targeted").score, rel=1e-3
    )


@pytest.mark.parametrize("source", ["prototypes", "stand-ins"])
def test_made_up_images_take_the_place_of_samples(source):
    prototypes = samples(per_class=1).images if source == "prototypes" else None
    found = reverse(classifier(backdoor="targeted"), None, seed=0, families=("patch",), prototypes=prototypes)
    assert found.images.source == source
    score = found.scores()["patch"]
    assert found.target_of("patch", score) == TARGET
    assert divmod(int(found.smallest("patch", score).mask.argmax()), SIZE) == PIXEL


# What cannot be assessed


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


def nan_for_bright_patches(logits, images):
    bright = torch.nn.functional.avg_pool2d(images, 2, stride=1).amax((1, 2, 3)) > 0.96
    return torch.where(bright[:, None], torch.nan, logits)


def constant(logits, images):
    return logits * 0 + 1


def loud_on_noise(logits, images):
    return logits * torch.where(images.std((1, 2, 3)) > 0.28, 1000.0, 1.0)[:, None]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (vanishing_root, "outputs or gradients are not finite numbers"),
        (steps, "outputs or gradients are all zero"),
        (nan_for_bright_patches, "not finite numbers"),
        (constant, "the same for every class"),
        (loud_on_noise, "answers random noise .* times as strongly"),
    ],
)
def test_a_search_that_cannot_see_does_not_count_as_no_trigger(spoil, reason):
    opened = TorchClassifier(Broken(spoil).eval(), "net", ScanSettings(input_shape=(1, SIZE, SIZE)))
    given = Samples(images=samples().images, labels=None)
    with pytest.raises(NotAssessableError, match=reason):
        reverse(opened, given, seed=0, families=("patch",))


def test_a_model_that_nothing_moves_is_not_assessable(monkeypatch):
    from pytest_backdoor.checks.reversal import _search

    monkeypatch.setattr(_search, "LEARNING_RATE", 1e-9)
    with pytest.raises(NotAssessableError, match="images made for each class are not taken for it"):
        run(families=("wave",))


def test_a_robust_model_is_one_in_which_nothing_was_found():
    found = run(families=("patch",))
    assert not found.found["patch"].success.any()
    assert found.score < 1


def test_statistics_of_another_search_are_refused(statistics):
    with pytest.raises(NotAssessableError, match="class statistics of the trigger family patch are of another search"):
        run(classes=3).scores(statistics)


# The check


def pack_of(opened, references, statistics=None, **changes):
    return pack_for(
        opened,
        references={
            component("reversal", kind, family): ReferenceScores(scores=scores, description="clean")
            for kind in ("samples", "prototypes")
            for family, scores in references.items()
        },
        statistics={} if statistics is None else {component("reversal", "samples", "patch"): statistics},
        **changes,
    )


def scan(tmp_path, opened, **settings):
    given = samples()
    np.savez(tmp_path / "data.npz", x=given.images, y=given.labels)
    settings = {"data": "data.npz", "families": ["patch"], **settings}
    return ReversalCheck().run(StandInSubject(opened), context(tmp_path, behavioural_checks=("reversal",), **settings))


@pytest.mark.parametrize(
    ("options", "outcome", "words"),
    [
        ({"backdoor": "targeted"}, Outcome.FAILED, "into class class 2."),
        ({"backdoor": "all-to-all"}, Outcome.FAILED, "for no single target class."),
        ({"jitter": CLEAN + 1}, Outcome.PASSED, "No class can be reached more easily than in clean models"),
    ],
)
def test_the_check_judges_by_the_pack(tmp_path, statistics, clean_margins, options, outcome, words):
    opened = classifier(**options)
    low, high = (float(part(held_out_scores(clean_margins["patch"]))) for part in (np.min, np.max))
    references = {"patch": np.linspace(low, high + 1, 120)}
    pack_of(opened, references, statistics["patch"]).save(tmp_path / "pack.npz")
    found = scan(tmp_path, opened, pack="pack.npz", seed=3)
    assert found.outcome is outcome
    assert words in found.summary
    assert found.seed == 3
    assert found.evidence["reference"]["models"] == 120
    assert found.evidence["families"] == ["patch"]
    assert "wave" in found.evidence["families_left_out"]
    json.dumps(found.to_json())


def test_several_families_are_judged_jointly(tmp_path):
    opened = classifier(backdoor="targeted")
    rng = np.random.default_rng(0)
    references = {family: rng.normal(size=120) for family in ("patch", "blend", "wave")}
    pack_of(opened, references).save(tmp_path / "pack.npz")
    found = scan(tmp_path, opened, pack="pack.npz", families=["patch", "blend", "warp"])
    # The pack knows no warps, and waves are not asked for.
    assert found.evidence["families"] == ["patch", "blend"]
    known = {name: ReferenceScores(scores=references[name], description="") for name in ("patch", "blend")}
    raw = found.evidence["scores_by_family"]
    standing = {name: (raw[name] - known[name].median) / known[name].spread for name in raw}
    assert found.score == pytest.approx(max(standing.values()), abs=0.01)


def test_the_check_judges_by_the_pack_of_the_model_s_task(tmp_path, monkeypatch):
    from pytest_backdoor.calibration import _find

    opened = classifier()
    stranger = linear_classifier(opened.input_shape, opened.classes, seed=1)
    name = component("reversal", "samples", "patch")
    for label, owner in (("a-stranger", stranger), ("b-own", opened)):
        reference = ReferenceScores(scores=np.linspace(0, 9, 120), description=label)
        pack_for(owner, name=label, references={name: reference}).save(tmp_path / f"{label}.npz")
    monkeypatch.setattr(_find, "shipped_packs", lambda: sorted(tmp_path.glob("?-*.npz")))
    assert scan(tmp_path, opened).evidence["reference"]["description"] == "b-own"


def test_families_that_the_pack_does_not_know_are_not_assessable(tmp_path):
    opened = classifier()
    pack_of(opened, {"patch": np.linspace(0, 9, 120)}).save(tmp_path / "pack.npz")
    with pytest.raises(NotAssessableError, match="no reference scores of trigger reversal for these trigger families"):
        scan(tmp_path, opened, pack="pack.npz", families=["warp"])


def test_unlabelled_samples_serve_too(tmp_path):
    opened = classifier(backdoor="targeted")
    pack_of(opened, {"patch": np.linspace(0, 1, 120)}).save(tmp_path / "pack.npz")
    np.savez(tmp_path / "bare.npz", x=samples().images)
    found = scan(tmp_path, opened, pack="pack.npz", data="bare.npz")
    assert found.outcome is Outcome.FAILED
    assert found.evidence["target_class"] == TARGET


class WithoutGradients:
    """A model that only ONNX Runtime can run, so to say."""

    def __init__(self, opened):
        self._opened = opened
        self.input_shape, self.classes = opened.input_shape, opened.classes

    def logits(self, images):
        return self._opened.logits(images)

    def differentiable(self, device):
        raise NotDifferentiableError("net.onnx holds the operator Sprout, which has no gradient.")


@pytest.mark.parametrize("data", ["data.npz", None])
def test_a_model_without_gradients_is_searched_by_forward_passes_and_not_judged(tmp_path, monkeypatch, data):
    from pytest_backdoor.checks.reversal import _fallback

    monkeypatch.setattr(_fallback, "BUDGET", 30_000)
    opened = WithoutGradients(classifier(backdoor="targeted"))
    made = eight_bit(samples(per_class=1).images)
    pack = pack_of(opened, {"patch": np.linspace(0, 9, 120)})
    replace(pack, prototypes=made, prototype_template=template_of(opened, made)).save(tmp_path / "pack.npz")
    found = scan(tmp_path, opened, pack="pack.npz", data=data)
    assert found.outcome is Outcome.NOT_ASSESSED
    assert found.summary.startswith("net.onnx holds the operator Sprout, which has no gradient. A search without")
    assert "fall into class class 2" in found.summary
    assert found.evidence["target_class"] == TARGET
    assert found.evidence["mask_size"] < 4
    assert found.evidence["flipped"] >= 0.9
    json.dumps(found.to_json())
