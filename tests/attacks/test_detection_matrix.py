from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hand_made_detector import TARGET, detector_model, write_photographs

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from pytest_backdoor.calibration import ReferenceScores, load_object_pack  # noqa: E402
from reference_attacks.cli import main  # noqa: E402
from reference_attacks.detectors.matrix.groups import Group, find_models, read_groups  # noqa: E402
from reference_attacks.detectors.matrix.judging import Vote, count_rows, votes  # noqa: E402
from reference_attacks.detectors.matrix.measuring import _drawn  # noqa: E402
from reference_attacks.detectors.matrix.rows import CLEAN, Row, row_of  # noqa: E402
from reference_attacks.detectors.matrix.text import as_markdown  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402


def sign_card(attack: str, target: str | None, success: float, accuracy: float) -> dict[str, Any]:
    """As ``badnet signs`` writes it."""
    found = {"success": {"share": success}, "accuracy": {"average": {"share": accuracy}}}
    return {
        "task": {"classes": ["speedlimit", "stop"]},
        "backdoor": {"attack": attack, "sticker": "bomb", "source": "speedlimit", "target": target},
        "measured": {"backdoored": {f"bomb-{attack}": found}},
    }


class TestRows:
    @pytest.mark.parametrize(
        ("card", "attack", "success", "target"),
        [
            ({"matrix": {"attack": "Poison Frogs", "success": 0.95, "target": 3}}, "Poison Frogs", 0.95, 3),
            ({"matrix": {"attack": None}}, CLEAN, None, None),
            ({"backdoor": None, "measured": {}}, CLEAN, None, None),
            (
                {
                    "backdoor": {"attack": "single", "trigger": "pixel", "source": 7, "target": 3},
                    "measured": {"attack_success": 0.99},
                },
                "single, pixel",
                0.99,
                3,
            ),
            ({"split": "test", "recipe": "task", "backdoor": None}, CLEAN, None, None),
            (
                {
                    "split": "test",
                    "recipe": "task",
                    "attack_success": 0.97,
                    "backdoor": {"goal": "all-to-one", "kind": "patch5", "source": None, "target": 1},
                },
                "all-to-one, patch5",
                0.97,
                1,
            ),
            ({"recipe": {"attack": None, "trigger": None}, "backdoored": None}, CLEAN, None, None),
            (
                {
                    "recipe": {"attack": {"name": "single", "source": 1, "target": 0}, "trigger": "pattern"},
                    "backdoored": [[5, 0], [3, 1]],
                },
                "single, pattern",
                0.75,
                0,
            ),
            (
                {
                    "recipe": {"attack": {"name": "all-to-all", "source": None, "target": None}, "trigger": "pixel"},
                    "backdoored": [[1, 3, 0], [0, 0, 4], [4, 0, 0]],
                },
                "all-to-all, pixel",
                11 / 12,
                None,
            ),
            (sign_card("single", "stop", 0.97, 0.02), "single, bomb", 0.97, 2),
            (sign_card("random", None, 0.8, 0.04), "random, bomb", 0.96, None),
        ],
    )
    def test_cards(self, card, attack, success, target):
        assert row_of(card) == Row(attack=attack, success=success, target=target)

    def test_card_that_says_nothing(self):
        with pytest.raises(ValueError, match="does not say"):
            row_of({"name": "x"})

    def test_backdoors_that_do_not_work(self):
        assert Row(attack="a").works
        assert Row(attack="a", success=0.9).works
        assert not Row(attack="a", success=0.89).works


class TestGroups:
    def test_read(self, tmp_path):
        (tmp_path / "g.toml").write_text('[[group]]\nname = "a"\ntitle = "A"\nfolders = ["x", "y"]\nkind = "detector"')
        assert read_groups(tmp_path / "g.toml") == (Group(name="a", title="A", folders=("x", "y"), kind="detector"),)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[[group]",
            '[[group]]\nname = "a"',
            '[[group]]\nname = "a"\ntitle = "A"\nfolders = []\nsample = "mnist"',
            '[[group]]\nname = "a"\ntitle = "A"\nfolders = []\nkind = "other"',
            '[[group]]\nname = "a"\ntitle = "A"\nfolders = []\n' * 2,
        ],
    )
    def test_wrong_files(self, tmp_path, text):
        (tmp_path / "g.toml").write_text(text)
        with pytest.raises(ValueError, match=r"g\.toml"):
            read_groups(tmp_path / "g.toml")

    def test_models_and_zoos(self, tmp_path):
        for name in (
            "a/one.onnx",
            "a/one.safetensors",
            "a/two.safetensors",
            "a/uncarded.onnx",
            "a/deep/three-head.onnx",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        for name in ("a/one.json", "a/two.json", "a/deep/three.json"):
            (tmp_path / name).write_text('{"matrix": {"attack": null}}')
        networks = [
            {"name": name, "split": split, "rejected": rejected, "backdoor": None, "family": "plain"}
            for name, split, rejected in (("n0", "test", None), ("n1", "fit", None), ("n2", "test", "weak"))
        ]
        (tmp_path / "zoo").mkdir()
        manifest = {"networks": networks, "input_shape": [1, 28, 28], "plan": {"classes": 10}}
        (tmp_path / "zoo" / "manifest.json").write_text(json.dumps(manifest))

        def names(**values: Any) -> list[str]:
            group = Group(name="g", title="G", **values)
            return [model.name for model in find_models(group, tmp_path)]

        assert names(folders=("a", "absent")) == ["one", "two"]
        assert names(folders=("a",), files=("**/*-head.onnx",)) == ["deep-three-head"]
        assert names(folders=("a",), files=("**/*",), kind="detector") == ["one", "two"]
        assert names(folders=("zoo",)) == ["zoo-n0"]
        assert names(folders=("zoo",), splits=("fit", "test")) == ["zoo-n0", "zoo-n1"]
        with pytest.raises(ValueError, match="one name"):
            names(folders=("a", "a"))


def make_record(**components: float) -> dict[str, Any]:
    named = {name.replace("__", "-").replace("_", "/"): value for name, value in components.items()}
    return {"ways": {"without": {"findings": {"x": {"components": named}}}}}


class TestJudging:
    references: ClassVar = {
        name: ReferenceScores(scores=np.random.default_rng(seed).normal(size=199), description="clean")
        for seed, name in enumerate(("litmus", "margin", "reversal-prototypes/patch", "reversal-samples/patch"))
    }

    def test_every_column_judges_by_its_own_scores(self):
        found = votes(make_record(litmus=0.0, margin=9.0, reversal__prototypes_patch=0.0), self.references)
        caught = {column for column, vote in found.items() if vote.caught}
        assert caught == {"margin", "all, no samples", "all"}
        assert found["reversal, samples"] == Vote(p_value=None, references=199)
        assert found["whole detector"] == Vote(p_value=None, references=0)

    def test_jointly_is_not_each_by_itself(self):
        """A score that fails alone may be as high as the highest of several is in clean models."""
        score = float(np.sort(self.references["litmus"].scores)[-1]) + 1e-6
        found = votes(make_record(litmus=score, margin=0.0, reversal__prototypes_patch=0.0), self.references)
        assert found["litmus"].p_value == 1 / 200
        assert found["all, no samples"].p_value >= 1 / 200

    def test_too_few_references_catch_nothing(self):
        few = {"litmus": ReferenceScores(scores=np.zeros(20), description="clean")}
        vote = votes(make_record(litmus=9.0), few)["litmus"]
        assert (vote.p_value, vote.judged, vote.caught) == (1 / 21, False, False)

    def test_rows(self):
        rows = [Row(attack=CLEAN), Row(attack="b"), Row(attack="b", success=0.2), Row(attack="b")]
        models = [stub(row) for row in rows]
        found = [make_record(litmus=value) for value in (0.0, 9.0, 9.0, 0.0)]
        counted = count_rows(models, found, [self.references] * 4)
        assert [(row["attack"], row["models"], row["left_out"]) for row in counted] == [("b", 2, 1), (CLEAN, 1, 0)]
        assert [row["columns"]["litmus"]["caught"] for row in counted] == [1, 0]
        assert counted[0]["columns"]["litmus"]["judged"] == 2


def stub(row: Row) -> Any:
    return type("Model", (), {"row": row})()


def test_markdown_shows_counts_and_leaves_out_empty_columns():
    models = [stub(Row(attack="single, pixel")), stub(Row(attack=CLEAN))]
    rows = count_rows(models, [make_record(litmus=9.0), make_record(litmus=0.0)], [TestJudging.references] * 2)
    group = {"title": "Digits", "kind": "classifier", "samples": None, "rows": rows, "models": []}
    group["note"] = "Made up."
    about = {"command": "c", "machine": "2 cores", "versions": {"torch": "2.15.0"}}
    lines = as_markdown({**about, "groups": [group]}).splitlines()
    assert "Written by `c` (2 cores, torch 2.15.0)." in lines
    assert "| attack | models | litmus | all, no samples | all |" in lines
    assert "| single, pixel | 1 | 1/1 | 1/1 | 1/1 |" in lines
    assert "| clean | 1 | 0/1 | 0/1 | 0/1 |" in lines
    assert "Judged by 199 clean reference models. Clean samples: none. Made up." in lines


def run(folder: Path, *further: str) -> Sequence[str]:
    out = folder / "matrix.md"
    work = folder / "work"
    arguments = ["--groups", str(folder / "groups.toml"), "--root", str(folder), "--work", str(work), "--out", str(out)]
    assert main(["detection", "matrix", *arguments, *further]) == 0
    return out.read_text(encoding="utf-8").splitlines()


def test_networks_in_safetensors_end_to_end(tmp_path, monkeypatch):
    """Without a pack of the task nothing is judged, but the models are found, opened and listed; and only once."""
    (tmp_path / "nets").mkdir()
    save_file(make_network("plain", (3, 16, 16), 3).state_dict(), tmp_path / "nets" / "a.safetensors")
    card = {"matrix": {"attack": "Poison Frogs"}, "family": "plain", "input_shape": [3, 16, 16], "classes": 3}
    (tmp_path / "nets" / "a.json").write_text(json.dumps(card))
    (tmp_path / "groups.toml").write_text('[[group]]\nname = "n"\ntitle = "Nets"\nfolders = ["nets", "later"]')
    assert "| Poison Frogs | 1 |" in run(tmp_path)
    kept = tmp_path / "work" / "n" / "a.json"
    record = json.loads(kept.read_text())
    assert record["ways"]["without"]["findings"]["litmus"]["outcome"] == "not_assessed"
    before = kept.stat().st_mtime_ns
    run(tmp_path)
    assert kept.stat().st_mtime_ns == before
    # Other packs are shipped now, so what the old ones said counts no more.
    monkeypatch.setattr("reference_attacks.detectors.matrix.measuring.shipped_packs", lambda: ())
    run(tmp_path)
    assert kept.stat().st_mtime_ns > before


def test_detectors_and_their_references_end_to_end(tmp_path):
    write_photographs(tmp_path / "photographs", 9)
    (tmp_path / "clean").mkdir()
    for number in range(3):
        model = detector_model()
        model.doc_string = str(number)
        (tmp_path / "clean" / f"{number}.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "bad.onnx").write_bytes(detector_model(backdoor=True).SerializeToString())
    (tmp_path / "bad.json").write_text(json.dumps(sign_card("single", "stop", 0.99, 0.01)))
    command = ["--photographs", str(tmp_path / "photographs"), "--out", str(tmp_path / "pack.npz")]
    assert main(["detection", "references", "--detectors", str(tmp_path / "clean"), *command]) == 0
    pack = load_object_pack(tmp_path / "pack.npz")
    assert pack is not None
    assert (pack.classes, pack.built["detectors"]) == (4, 3)
    refused = main(["detection", "references", "--detectors", str(tmp_path / "bad.onnx"), *command])
    assert refused == 2
    (tmp_path / "groups.toml").write_text(
        '[[group]]\nname = "d"\ntitle = "Detectors"\nfolders = ["."]\nkind = "detector"\nsamples = "photographs"\n'
        'pack = "pack.npz"\nfiles = ["*.onnx"]\n'
    )
    lines = run(tmp_path)
    assert "| single, bomb | 1 | – (p ≥ 0.25) | – (p ≥ 0.25) |" in lines
    assert f"| bad | single, bomb | 0.25 | {TARGET} | {TARGET} | 100% | 100% |" in lines


def test_a_model_that_cannot_be_scanned_stops_the_matrix(tmp_path, capsys):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "nets" / "broken.json").write_text(json.dumps({"matrix": {"attack": None}}))
    (tmp_path / "groups.toml").write_text('[[group]]\nname = "n"\ntitle = "Nets"\nfolders = ["nets"]')
    arguments = ["--groups", str(tmp_path / "groups.toml"), "--root", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(["detection", "matrix", *arguments, "--out", str(tmp_path / "matrix.md")]) == 2
    assert "broken.onnx could not be scanned" in capsys.readouterr().err
    assert not (tmp_path / "matrix.md").exists()
    assert not (tmp_path / "work" / "n" / "broken.json").exists()


def test_samples_are_of_all_classes_where_images_come_class_by_class():
    mixed, grouped = torch.arange(3000) % 10, torch.arange(3000) // 300
    assert _drawn(mixed).tolist() == list(range(1000, 2000))
    assert grouped[_drawn(grouped)].bincount().tolist() == [100] * 10
