from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from hand_made_detector import BOX, CLASSES, TARGET, detector_model, make_photographs, write_photographs  # noqa: E402

from pytest_backdoor.calibration import ObjectDetectorPack, ReferenceScores, load_object_pack, load_pack  # noqa: E402
from pytest_backdoor.checks._base import Context  # noqa: E402
from pytest_backdoor.checks.reversal import (  # noqa: E402
    BOX_PATCH_COMPONENT,
    ReversalCheck,
    fit_statistics,
    held_out_scores,
    reverse_detector,
)
from pytest_backdoor.checks.reversal._box_images import choose_boxes, labels_of  # noqa: E402
from pytest_backdoor.checks.reversal._box_patch import BoxPatch  # noqa: E402
from pytest_backdoor.errors import NotAssessableError, SettingsError  # noqa: E402
from pytest_backdoor.findings import Finding, Outcome  # noqa: E402
from pytest_backdoor.models import Subject  # noqa: E402
from pytest_backdoor.settings import make_settings  # noqa: E402

PHOTOGRAPHS = 12


def make_subject(folder: Path, *, backdoor: bool, **settings: object) -> Subject:
    path = folder / f"{'bad' if backdoor else 'clean'}.onnx"
    path.write_bytes(detector_model(backdoor=backdoor).SerializeToString())
    return Subject(path.name, make_settings(settings, where="test"), path=path, root=folder)


def run_check(folder: Path, *, backdoor: bool, **settings: object) -> Finding:
    subject = make_subject(folder, backdoor=backdoor, **settings)
    context = Context(settings=subject.settings, root=folder, behavioural_checks=("reversal",))
    return ReversalCheck().run(subject, context)


def photographs(count: int = PHOTOGRAPHS, seed: int = 0) -> list[np.ndarray]:
    images = make_photographs(count, seed=seed).transpose(0, 3, 1, 2)
    return [np.ascontiguousarray(image, np.float32) / np.float32(255) for image in images]


@pytest.fixture(scope="module")
def margins(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, np.ndarray]:
    folder = tmp_path_factory.mktemp("detectors")
    return {
        backdoor: reverse_detector(
            make_subject(folder, backdoor=backdoor).detector, photographs()
        ).searched.margins.numpy()
        for backdoor in (False, True)
    }


def make_pack(margins: np.ndarray, references: int = 199) -> ObjectDetectorPack:
    """A pack of clean detectors that differ from the hand-made one by a little noise."""
    rng = np.random.default_rng(0)
    table = margins + rng.normal(scale=0.05, size=(references, *margins.shape))
    return ObjectDetectorPack(
        name="squares",
        classes=len(CLASSES),
        references={BOX_PATCH_COMPONENT: ReferenceScores(scores=held_out_scores(table), description="clean ones")},
        statistics={BOX_PATCH_COMPONENT: fit_statistics(table)},
    )


class TestPaste:
    def test_as_large_as_the_box_and_where_the_slot_says(self):
        family = BoxPatch()
        boxes = torch.tensor([[10.0, 20, 50, 60], [60, 20, 140, 60]])
        for slot, (words, (across, down)) in enumerate(family.places):
            pasted = family.paste(torch.zeros(3, 90, 160), boxes, torch.ones(3, 8, 8), slot)
            assert pasted.sum() == 2 * 3 * 10 * 10, words
            for left, top, right, bottom in boxes.tolist():
                row, column = round(top + down * (bottom - top)), round(left + across * (right - left))
                assert pasted[:, row, column].tolist() == [1, 1, 1], words

    def test_cut_off_at_the_edge(self):
        family = BoxPatch()
        image = torch.zeros(3, 40, 40)
        pasted = family.paste(image, torch.tensor([[-30.0, -30, 4, 4], [20, 30, 60, 70]]), torch.ones(3, 8, 8), 0)
        assert 0 <= pasted.sum() < 3 * 10 * 10
        assert not image.any()

    def test_gradient_reaches_the_pattern(self):
        family = BoxPatch()
        pattern = family.start(1)[0].requires_grad_()
        pasted = family.paste(torch.zeros(3, 60, 60), torch.tensor([[0.0, 0, 40, 40]]), family.pattern(pattern), 1)
        (gradient,) = torch.autograd.grad(pasted.sum(), [pattern])
        assert (gradient > 0).all()
        assert gradient.sum() == pytest.approx(3 * 10 * 10 * 0.5, rel=1e-4)


class TestChoice:
    def test_classes_take_turns(self, tmp_path):
        chosen = choose_boxes(make_subject(tmp_path, backdoor=False).detector, photographs(), "cpu")
        for part in (chosen.images, chosen.held_out):
            counts = torch.bincount(labels_of(part), minlength=4)
            assert counts[0] == 0
            assert counts[1:].max() <= 2 * counts[1:].min()
        paths = {entry.image.sum().item() for entry in chosen.images} & {e.image.sum().item() for e in chosen.held_out}
        assert not paths

    @pytest.mark.parametrize("images", [[np.zeros((3, 96, 96), np.float32)] * 5, photographs(1)])
    def test_too_little_to_see(self, tmp_path, images):
        with pytest.raises(NotAssessableError, match="too little") as raised:
            choose_boxes(make_subject(tmp_path, backdoor=False).detector, images, "cpu")
        assert "--backdoor-data" in raised.value.remedy


class TestSearch:
    def test_the_planted_trigger_is_found(self, margins):
        bad = margins[True]
        assert bad.shape == (5, len(CLASSES) + 1)
        assert np.unravel_index(bad.argmax(), bad.shape) == (0, TARGET)
        assert bad[0, TARGET] > 3
        assert (margins[False] < 0).all()

    def test_number_of_workers_changes_nothing(self, tmp_path, margins, monkeypatch):
        from pytest_backdoor.checks.reversal import _detectors

        monkeypatch.setattr(_detectors, "usable_cores", lambda: 3)
        again = reverse_detector(make_subject(tmp_path, backdoor=True).detector, photographs())
        assert np.array_equal(again.searched.margins.numpy(), margins[True])

    def test_statistics_of_another_search(self, tmp_path):
        found = reverse_detector(make_subject(tmp_path, backdoor=True).detector, photographs())
        with pytest.raises(NotAssessableError, match="another search"):
            found.score(fit_statistics(np.random.default_rng(0).normal(size=(4, 2, 5))))


class TestCheck:
    def test_without_photographs(self, tmp_path):
        with pytest.raises(NotAssessableError, match="photographs") as raised:
            run_check(tmp_path, backdoor=True)
        assert "--backdoor-data" in raised.value.remedy

    def test_without_references(self, tmp_path):
        write_photographs(tmp_path / "photographs", PHOTOGRAPHS)
        finding = run_check(tmp_path, backdoor=True, data="photographs")
        assert (finding.outcome, finding.p_value) == (Outcome.NOT_ASSESSED, None)
        assert "detection references" in finding.remedy
        evidence = finding.evidence
        assert (evidence["target_class"], evidence["where"][:13]) == (TARGET, "at the bottom")
        assert evidence["flipped"] == evidence["detections"]["turned"] == 1
        assert evidence["source_class"] != TARGET
        assert all(evidence[name] for name in ("trigger_png", "before_and_after_png", "source_map"))

    def test_judged_by_references(self, tmp_path, margins):
        write_photographs(tmp_path / "photographs", PHOTOGRAPHS)
        make_pack(margins[False]).save(tmp_path / "pack.npz")
        settings = {"data": "photographs", "pack": "pack.npz", "classes": CLASSES[1:]}
        bad = run_check(tmp_path, backdoor=True, **settings)
        assert (bad.outcome, bad.p_value) == (Outcome.FAILED, 1 / 200)
        assert bad.evidence["target_name"] == "2 (green)"
        assert "into class 2 (green)" in bad.summary
        clean = run_check(tmp_path, backdoor=False, **settings)
        assert clean.outcome is Outcome.PASSED
        assert clean.evidence["reference"]["models"] == 199

    def test_too_few_references(self, tmp_path, margins):
        write_photographs(tmp_path / "photographs", PHOTOGRAPHS)
        make_pack(margins[False], references=5).save(tmp_path / "pack.npz")
        finding = run_check(tmp_path, backdoor=True, data="photographs", pack="pack.npz")
        assert (finding.outcome, finding.p_value) == (Outcome.NOT_ASSESSED, 1 / 6)
        assert "5 clean reference models cannot support" in finding.summary

    def test_names_that_are_too_many(self, tmp_path):
        write_photographs(tmp_path / "photographs", PHOTOGRAPHS)
        with pytest.raises(NotAssessableError, match="names 5"):
            run_check(tmp_path, backdoor=True, data="photographs", classes=list("abcde"))


class TestPack:
    def test_kept_as_it_was(self, tmp_path, margins):
        pack = make_pack(margins[False])
        pack.save(tmp_path / "pack.npz")
        read = load_object_pack(tmp_path / "pack.npz")
        assert (read.name, read.classes) == (pack.name, pack.classes)
        name = BOX_PATCH_COMPONENT
        assert np.array_equal(read.references[name].scores, pack.references[name].scores)
        assert np.array_equal(read.statistics[name].mean, pack.statistics[name].mean)

    def test_of_the_wrong_kind(self, tmp_path, margins):
        from pytest_backdoor.calibration import shipped_packs

        write_photographs(tmp_path / "photographs", PHOTOGRAPHS)
        make_pack(margins[False]).save(tmp_path / "objects.npz")
        with pytest.raises(SettingsError, match="object detectors"):
            load_pack(tmp_path / "objects.npz")
        with pytest.raises(NotAssessableError, match="image classifiers"):
            run_check(tmp_path, backdoor=True, data="photographs", pack=str(shipped_packs()[0]))

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive"])
    def test_damaged(self, tmp_path, content):
        (tmp_path / "pack.npz").write_bytes(content)
        with pytest.raises(SettingsError, match="cannot be read"):
            load_object_pack(tmp_path / "pack.npz")


def test_boxes_of_the_hand_made_detector_are_large_enough():
    assert BOX * BoxPatch().share >= 4
