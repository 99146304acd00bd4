from __future__ import annotations

import dataclasses
import json
import zipfile

import numpy as np
import pytest
from stand_in_subjects import linear_classifier, pack_for

from pytest_backdoor.calibration import (
    ClassStatistics,
    ReferenceScores,
    _archive,
    _find,
    eight_bit,
    find_packs,
    load_pack,
    shipped_packs,
)
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
    biased = dataclasses.replace(PACK, bias=bias, least_similarity=1 / 3, sure_similarity=2 / 3)
    biased.save(tmp_path / "new" / "p.npz")
    loaded = load_pack(tmp_path / "new" / "p.npz")
    for field in dataclasses.fields(PACK):
        old, new = getattr(biased, field.name), getattr(loaded, field.name)
        if isinstance(old, np.ndarray):
            assert old.dtype == new.dtype
            np.testing.assert_array_equal(old, new)
        elif field.name not in ("references", "statistics"):
            assert old == new
    assert loaded.references.keys() == PACK.references.keys()
    for name, reference in PACK.references.items():
        np.testing.assert_array_equal(loaded.references[name].scores, reference.scores)
        assert loaded.references[name].description == reference.description
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["p.npz"]


@pytest.mark.parametrize("count", [3, 6])
def test_offsets_and_gain_are_kept(tmp_path, count):
    offsets = np.array([0.1, -2.0, 3.0, 0.0, 0.5, 1.0], np.float32)[:count]
    dataclasses.replace(PACK, offsets=offsets, gain=1 / 3).save(tmp_path / "p.npz")
    loaded = load_pack(tmp_path / "p.npz")
    np.testing.assert_array_equal(loaded.offsets, offsets)
    assert loaded.gain == 1 / 3
    with pytest.raises(ValueError, match="read-only"):
        loaded.offsets[0] = 1


def test_a_pack_of_version_2_is_linear(tmp_path):
    PACK.save(tmp_path / "p.npz")
    told = json.loads(str(members(tmp_path / "p.npz")["about"]))
    del told["gain"]
    rewritten(tmp_path / "p.npz", about=np.array(json.dumps({**told, "version": 2})))
    loaded = load_pack(tmp_path / "p.npz")
    assert loaded.offsets is None
    assert loaded.gain == 1
    np.testing.assert_array_equal(loaded.weights, PACK.weights)


@pytest.mark.parametrize("name", ["patterns", "prototypes"])
def test_images_that_eight_bits_cannot_hold_are_not_saved(tmp_path, name):
    finer = dataclasses.replace(PACK, **{name: getattr(PACK, name) + np.float32(0.4 / 255)})
    with pytest.raises(ValueError, match=f"The {name} of a detector pack must be 8-bit images"):
        finer.save(tmp_path / "p.npz")
    dataclasses.replace(finer, **{name: eight_bit(getattr(finer, name))}).save(tmp_path / "p.npz")
    np.testing.assert_array_equal(getattr(load_pack(tmp_path / "p.npz"), name), getattr(PACK, name))


def test_eight_bit_images_are_the_nearest():
    values = np.array([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 100.4 / 255, 1.0, 1.1])
    np.testing.assert_allclose(eight_bit(values) * 255, [0, 0, 0, 1, 100, 255, 255], rtol=1e-6)
    assert eight_bit(values).dtype == np.float32


def test_a_pack_for_many_classes_and_colours_stays_small(tmp_path):
    pack_for(linear_classifier((3, 32, 32), classes=43), patterns=10, prototypes=10).save(tmp_path / "p.npz")
    assert (tmp_path / "p.npz").stat().st_size < 1_000_000
    assert load_pack(tmp_path / "p.npz").patterns.shape == (10, 3, 32, 32)


def test_a_pack_is_read_once_for_each_state_of_its_file(tmp_path):
    path = tmp_path / "p.npz"
    PACK.save(path)
    first = load_pack(path)
    assert load_pack(path) is first
    with pytest.raises(ValueError, match="read-only"):
        first.patterns[0] = 0
    dataclasses.replace(PACK, name="another name").save(path)
    assert load_pack(path).name == "another name"


TABLE = np.arange(1, 7, dtype=np.float32).reshape(2, 3)


def test_class_statistics_are_kept(tmp_path):
    statistics = {"reversal-samples/patch": ClassStatistics(mean=-TABLE, spread=TABLE)}
    dataclasses.replace(PACK, statistics=statistics).save(tmp_path / "p.npz")
    (loaded,) = load_pack(tmp_path / "p.npz").statistics.values()
    np.testing.assert_array_equal(loaded.mean, -TABLE)
    np.testing.assert_array_equal(loaded.spread, TABLE)
    with pytest.raises(ValueError, match="read-only"):
        loaded.mean[0] = 1


@pytest.mark.parametrize(
    ("mean", "spread", "reason"),
    [
        (TABLE, TABLE[:1], "class statistics do not fit"),
        (TABLE, TABLE - 1, "class statistics do not fit"),
        (TABLE * np.nan, TABLE, "no finite numbers"),
    ],
)
def test_damaged_class_statistics_are_a_settings_error(tmp_path, mean, spread, reason):
    dataclasses.replace(PACK, statistics={"x": ClassStatistics(mean=mean, spread=spread)}).save(tmp_path / "p.npz")
    with pytest.raises(SettingsError, match=reason):
        load_pack(tmp_path / "p.npz")


def test_references_of_different_models_are_a_settings_error(tmp_path):
    several = {
        name: ReferenceScores(scores=np.zeros(count), description="d") for name, count in (("litmus", 3), ("margin", 4))
    }
    dataclasses.replace(PACK, references=several).save(tmp_path / "p.npz")
    with pytest.raises(SettingsError, match="reference scores are not of the same models"):
        load_pack(tmp_path / "p.npz")


def test_of_a_pack_of_version_3_the_litmus_references_are_read(tmp_path):
    PACK.save(tmp_path / "p.npz")
    rewritten(tmp_path / "p.npz", about=about(tmp_path / "p.npz", version=3))
    assert list(load_pack(tmp_path / "p.npz").references) == ["litmus"]


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
        (lambda path: rewritten(path, about=about(path, version=1)), "it has version 1, this is version 4"),
        (lambda path: rewritten(path, about=about(path, task={})), "input_shape"),
        (lambda path: rewritten(path, about=about(path, task={"input_shape": [4, 4], "classes": 3})), "unpack"),
        (lambda path: rewritten(path, about=about(path, references={"margin": "x"})), "reference/margin"),
        (lambda path: rewritten(path, about=about(path, bias=float("nan"))), "no finite numbers"),
        (lambda path: rewritten(path, about=about(path, gain=float("inf"))), "no finite numbers"),
        (lambda path: rewritten(path, offsets=np.zeros(4, np.float32)), "its arrays do not fit each other"),
        (lambda path: rewritten(path, offsets=np.full(6, np.nan, np.float32)), "no finite numbers"),
        (lambda path: rewritten(path, offsets=np.zeros(6, int)), "no finite numbers"),
        (lambda path: rewritten(path, weights=None), "weights"),
        (lambda path: rewritten(path, weights=PACK.weights[:-1]), "its arrays do not fit each other"),
        (lambda path: rewritten(path, prototypes=members(path)["prototypes"][:1]), "its arrays do not fit each other"),
        (lambda path: rewritten(path, prototypes=members(path)["prototypes"][..., :3]), "its arrays do not fit"),
        (
            lambda path: rewritten(path, patterns=members(path)["patterns"][:, :, :3]),
            "its arrays do not fit each other",
        ),
        (lambda path: rewritten(path, patterns=members(path)["patterns"][:1]), "its arrays do not fit each other"),
        (
            lambda path: rewritten(
                path, prototype_template=PACK.prototype_template[:0], prototypes=members(path)["prototypes"][:0]
            ),
            "not scaled",
        ),
        (lambda path: rewritten(path, patterns=PACK.patterns), "its patterns are no 8-bit images"),
        (lambda path: rewritten(path, prototypes=PACK.prototypes), "its prototypes are no 8-bit images"),
        (lambda path: rewritten(path, weights=PACK.weights * np.nan), "no finite numbers"),
        (lambda path: rewritten(path, **{"reference/litmus": np.full(199, np.inf)}), "no finite numbers"),
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


@pytest.mark.parametrize("name", ["pattern_template", "prototype_template"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda template: template[:-1], "its arrays do not fit each other"),
        (lambda template: None, "_template"),
        (lambda template: template * np.nan, "no finite numbers"),
        (lambda template: template.astype(int), "no finite numbers"),
        (lambda template: template * 2, "its templates are not scaled"),
    ],
)
def test_a_damaged_template_is_a_settings_error(tmp_path, name, change, reason):
    PACK.save(tmp_path / "p.npz")
    rewritten(tmp_path / "p.npz", **{name: change(getattr(PACK, name))})
    with pytest.raises(SettingsError, match=reason):
        load_pack(tmp_path / "p.npz")


@pytest.mark.parametrize("name", ["sure_similarity", "least_similarity"])
@pytest.mark.parametrize(
    ("value", "reason"), [(0.0, "between 0 and 1"), (1.1, "between 0 and 1"), (float("nan"), "no finite numbers")]
)
def test_a_damaged_similarity_is_a_settings_error(tmp_path, name, value, reason):
    PACK.save(tmp_path / "p.npz")
    rewritten(tmp_path / "p.npz", about=about(tmp_path / "p.npz", **{name: value}))
    with pytest.raises(SettingsError, match=reason):
        load_pack(tmp_path / "p.npz")


@pytest.mark.parametrize("limit", ["LARGEST_PACK", "LARGEST_UNPACKED"])
def test_a_pack_that_is_too_large_is_not_read(tmp_path, monkeypatch, limit):
    PACK.save(tmp_path / "p.npz")
    monkeypatch.setattr(_archive, limit, 100)
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
        (pack,) = find_packs(shape, classes, given=tmp_path / "p.npz")
        assert pack.name == "tiny"
    else:
        with pytest.raises(
            NotAssessableError, match=r"p\.npz is for images of shape \[1, 4, 4\] and 3 classes, not for"
        ) as caught:
            find_packs(shape, classes, given=tmp_path / "p.npz")
        assert f"of shape {list(shape)}: python -m reference_attacks zoo build" in caught.value.remedy


def test_shipped_packs_are_found_by_their_images_and_classes(tmp_path, monkeypatch):
    other = pack_for(linear_classifier(classes=5), name="other", references={})
    twin = pack_for(linear_classifier(seed=8), name="twin")
    paths = [tmp_path / f"{pack.name}.npz" for pack in (PACK, other, twin)]
    for path, pack in zip(paths, (PACK, other, twin), strict=True):
        pack.save(path)
    monkeypatch.setattr(_find, "shipped_packs", lambda: paths)
    assert [pack.name for pack in find_packs((1, 4, 4), 5)] == ["other"]
    assert [pack.name for pack in find_packs((1, 4, 4), 3)] == ["tiny", "twin"]
    with pytest.raises(
        NotAssessableError, match=r"No detector pack fits images of shape \[1, 4, 4\] with 6 classes"
    ) as caught:
        find_packs((1, 4, 4), 6)
    for command in (
        "python -m reference_attacks zoo build --task FOLDER --out zoo,",
        "python -m reference_attacks litmus fit --zoo zoo --out pack.npz;",
        "--backdoor-pack pack.npz.",
    ):
        assert command in caught.value.remedy


def test_every_shipped_pack_can_be_read():
    for path in shipped_packs():
        pack = load_pack(path)
        assert find_packs(pack.input_shape, pack.classes, given=path) == (pack,)
        assert pack in find_packs(pack.input_shape, pack.classes)


def test_a_pack_without_references_is_read(tmp_path):
    dataclasses.replace(PACK, references={}).save(tmp_path / "p.npz")
    assert load_pack(tmp_path / "p.npz").references == {}


def test_reference_scores_keep_their_precision(tmp_path):
    scores = np.array([1 / 3, 1e-300, -7.5])
    dataclasses.replace(PACK, references={"x": ReferenceScores(scores=scores, description="d")}).save(
        tmp_path / "p.npz"
    )
    np.testing.assert_array_equal(load_pack(tmp_path / "p.npz").references["x"].scores, scores)
