from __future__ import annotations

import dataclasses
import json
import zipfile

import numpy as np
import pytest
from stand_in_subjects import linear_classifier, pack_for

from pytest_backdoor.calibration import ReferenceScores, _pack, find_pack, load_pack, shipped_packs
from pytest_backdoor.errors import NotAssessableError, SettingsError

PACK = pack_for(linear_classifier())


def members(path):
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def rewritten(path, **changes):
    """The pack at ``path`` with other members; None takes one away."""
    changed = {**members(path), **changes}
    np.savez(path, **{name: value for name, value in changed.items() if value is not None})


def about(path, **changes):
    return np.array(json.dumps({**json.loads(str(members(path)["about"])), **changes}))


def test_saving_and_loading_loses_nothing(tmp_path):
    bias = 0.1 + 1e-17 + 2 / 3
    biased = dataclasses.replace(PACK, bias=bias, least_recognised=2)
    biased.save(tmp_path / "new" / "p.npz")
    loaded = load_pack(tmp_path / "new" / "p.npz")
    for field in dataclasses.fields(PACK):
        old, new = getattr(biased, field.name), getattr(loaded, field.name)
        if isinstance(old, np.ndarray):
            assert old.dtype == new.dtype
            np.testing.assert_array_equal(old, new)
        elif field.name != "references":
            assert old == new
    assert loaded.references.keys() == PACK.references.keys()
    for name, reference in PACK.references.items():
        np.testing.assert_array_equal(loaded.references[name].scores, reference.scores)
        assert loaded.references[name].description == reference.description
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["p.npz"]


def whole(path):
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b""), "not a zip file"),
        (lambda path: path.write_bytes(whole(path)[:-40]), "not a zip file"),
        (lambda path: path.write_bytes(b"hello"), "not a zip file"),
        (lambda path: rewritten(path, about=None), "about"),
        (lambda path: rewritten(path, about=np.array("{")), "Expecting"),
        (lambda path: rewritten(path, about=about(path, version=2)), "it has version 2, this is version 1"),
        (lambda path: rewritten(path, about=about(path, task={})), "input_shape"),
        (lambda path: rewritten(path, about=about(path, task={"input_shape": [4, 4], "classes": 3})), "unpack"),
        (lambda path: rewritten(path, about=about(path, references={"margin": "x"})), "reference/margin"),
        (lambda path: rewritten(path, about=about(path, bias=float("nan"))), "no finite numbers"),
        (lambda path: rewritten(path, weights=None), "weights"),
        (lambda path: rewritten(path, weights=PACK.weights[:-1]), "its arrays do not fit each other"),
        (lambda path: rewritten(path, prototypes=PACK.prototypes[:1]), "its arrays do not fit each other"),
        (lambda path: rewritten(path, patterns=PACK.patterns[:, :, :3]), "its arrays do not fit each other"),
        (lambda path: rewritten(path, patterns=PACK.patterns[:1]), "its arrays do not fit each other"),
        (lambda path: rewritten(path, weights=PACK.weights * np.nan), "no finite numbers"),
        (lambda path: rewritten(path, prototypes=PACK.prototypes.astype(int)), "no finite numbers"),
        (lambda path: rewritten(path, **{"reference/litmus": np.array([1, np.inf])}), "no finite numbers"),
        (lambda path: rewritten(path, **{"reference/litmus": np.ones((2, 2))}), "no list of numbers"),
        (lambda path: rewritten(path, **{"reference/litmus": np.ones(0)}), "no list of numbers"),
        (lambda path: rewritten(path, weights=np.array([{}], object)), "Object arrays cannot be loaded"),
        (lambda path: rewritten(path, about=np.array({"version": 1}, object)), "Object arrays cannot be loaded"),
    ],
)
def test_a_damaged_pack_is_a_settings_error(tmp_path, damage, reason):
    path = tmp_path / "p.npz"
    PACK.save(path)
    damage(path)
    with pytest.raises(SettingsError, match=reason) as caught:
        load_pack(path)
    assert str(caught.value).startswith(f"The detector pack {path} cannot be read: ")
    assert str(caught.value).endswith("Build it again.")


@pytest.mark.parametrize("limit", ["LARGEST_PACK", "LARGEST_UNPACKED"])
def test_a_pack_that_is_too_large_is_not_read(tmp_path, monkeypatch, limit):
    PACK.save(tmp_path / "p.npz")
    monkeypatch.setattr(_pack, limit, 100)
    with pytest.raises(SettingsError, match="it is too large"):
        load_pack(tmp_path / "p.npz")


def test_a_pack_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    PACK.save(tmp_path / "p.npz")
    with (
        zipfile.ZipFile(tmp_path / "p.npz", "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zeros.npy", "w") as out,
    ):
        for _ in range(257):
            out.write(bytes(2**20))
    assert (tmp_path / "p.npz").stat().st_size < 2**20
    with pytest.raises(SettingsError, match="it is too large"):
        load_pack(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("shape", "classes", "fits"), [((1, 4, 4), 3, True), ((1, 4, 4), 4, False), ((1, 4, 5), 3, False)]
)
def test_a_given_pack_has_to_fit(tmp_path, shape, classes, fits):
    PACK.save(tmp_path / "p.npz")
    if fits:
        assert find_pack(shape, classes, given=tmp_path / "p.npz").name == "tiny"
    else:
        with pytest.raises(
            NotAssessableError, match=r"p\.npz is for images of shape \[1, 4, 4\] and 3 classes, not for"
        ):
            find_pack(shape, classes, given=tmp_path / "p.npz")


def test_a_shipped_pack_is_found_by_its_task(tmp_path, monkeypatch):
    other = pack_for(linear_classifier(classes=5), name="other", references={})
    PACK.save(tmp_path / "a.npz")
    other.save(tmp_path / "b.npz")
    monkeypatch.setattr(_pack, "shipped_packs", lambda: [tmp_path / "a.npz", tmp_path / "b.npz"])
    assert find_pack((1, 4, 4), 5).name == "other"
    assert find_pack((1, 4, 4), 3).name == "tiny"
    with pytest.raises(NotAssessableError, match=r"No detector pack fits images of shape \[1, 4, 4\] with 6 classes"):
        find_pack((1, 4, 4), 6)


def test_every_shipped_pack_can_be_read():
    for path in shipped_packs():
        pack = load_pack(path)
        assert find_pack(pack.input_shape, pack.classes, given=path).name == pack.name


def test_a_pack_without_references_is_read(tmp_path):
    dataclasses.replace(PACK, references={}).save(tmp_path / "p.npz")
    assert load_pack(tmp_path / "p.npz").references == {}


def test_reference_scores_keep_their_precision(tmp_path):
    scores = np.array([1 / 3, 1e-300, -7.5])
    dataclasses.replace(PACK, references={"x": ReferenceScores(scores=scores, description="d")}).save(
        tmp_path / "p.npz"
    )
    np.testing.assert_array_equal(load_pack(tmp_path / "p.npz").references["x"].scores, scores)
