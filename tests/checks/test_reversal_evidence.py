from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from stripes import PIXEL, SIZE, TARGET, run  # noqa: E402  (after the skip)

from pytest_backdoor.checks.reversal._evidence import (  # noqa: E402
    SHOWN,
    anomaly_index,
    draw,
    encode_png,
    evidence_of,
    source_map,
)
from pytest_backdoor.checks.reversal._images import shrunk  # noqa: E402
from pytest_backdoor.checks.reversal._smallest import SmallestTrigger  # noqa: E402
from pytest_backdoor.settings import DEFAULT_FAMILIES  # noqa: E402


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([11.0, 7.0, 6.0, 5.0, 3.0], 5 / 1.4826),  # median 6; deviations 5, 1, 0, 1, 3, of which the median is 1
        ([12.0, 10.0, 8.0, 4.0], 3 / (1.4826 * 2)),  # median 9; deviations 3, 1, 1, 5, of which the median is 2
        ([4.0, 4.0, 4.0, 9.0], None),
        ([3.0], None),
        ([3.0, 3.0], None),
    ],
)
def test_the_anomaly_index_by_hand(values, expected):
    assert anomaly_index(values) == (None if expected is None else pytest.approx(expected))


def trigger_of(mask, pattern):
    return SmallestTrigger(target=1, mask=mask[None], pattern=pattern, size=float(mask.sum()), success=1.0)


def test_a_trigger_is_pasted_over_the_image():
    mask = torch.zeros(2, 2)
    mask[0, 1] = 0.25
    pasted = trigger_of(mask, torch.full((3, 2, 2), 0.8)).apply(torch.full((1, 3, 2, 2), 0.4))
    assert pasted[0, :, 0, 1].tolist() == pytest.approx([0.5] * 3)
    assert pasted[0, :, 1].flatten().tolist() == pytest.approx([0.4] * 6)


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


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_pictures_can_be_decoded_again(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decoded(encode_png(pixels)), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_evidence_is_json_and_shows_the_trigger(channels):
    found = run(channels=channels, backdoor="targeted")
    evidence = json.loads(json.dumps(evidence_of(found, "patch", found.scores(), lambda number: f"class {number}")))
    assert (evidence["target_class"], evidence["target_name"]) == (TARGET, f"class {TARGET}")
    assert (evidence["family"], evidence["where"]) == ("patch", "rows 8 to 9, columns 6 to 7")
    assert evidence["image_area"] == SIZE * SIZE
    others = int((found.images.held_out_labels != TARGET).sum())
    assert (evidence["flipped"], evidence["flipped_of"]) == (1, others)
    assert evidence["flipped_by_smallest"] >= 0.95
    assert evidence["mask_size"] < 3
    assert evidence["classes_searched"] == [0, 1, 2, 3]
    assert int(np.argmax(evidence["standing_out_by_class"])) == TARGET
    assert evidence["standing_out_agnostic"] is None  # nothing to compare it with
    assert evidence["trigger_drawing"][0] == f"rows {PIXEL[0]} to {PIXEL[0]}, columns {PIXEL[1]} to {PIXEL[1]}"
    mask = decoded(evidence["mask_png"])
    assert np.unravel_index(mask.argmax(), mask.shape) == PIXEL
    for name in ("trigger_png", "clean_png", "triggered_png"):
        assert decoded(evidence[name]).shape[:2] == (SIZE, SIZE)
    changed = (decoded(evidence["clean_png"]) != decoded(evidence["triggered_png"])).reshape(SIZE, SIZE, -1).any(axis=2)
    assert changed[PIXEL]
    assert not changed[mask.reshape(SIZE, SIZE) == 0].any()
    assert evidence["example_before"] == f"class {evidence['predicted_before'][0]}" != evidence["example_after"]
    assert evidence["example_after"] == f"class {TARGET}"
    assert evidence["names_by_class"] == [f"class {number}" for number in range(4)]
    assert decoded(evidence["before_and_after_png"]).shape[:2] == (2 * SIZE, SHOWN * SIZE)
    assert TARGET not in evidence["predicted_before"]
    assert set(evidence["predicted_after"]) == {TARGET}


@pytest.mark.parametrize(
    ("size", "largest", "expected"), [((8, 6), 8, (8, 6)), ((224, 112), 64, (64, 32)), ((300, 1), 60, (60, 1))]
)
def test_large_pictures_are_shown_smaller(size, largest, expected):
    assert shrunk(torch.rand(3, *size), largest).shape == (3, *expected)


@pytest.mark.parametrize("family", DEFAULT_FAMILIES)
def test_every_family_has_evidence(family):
    found = run(backdoor="targeted", families=(family,))
    evidence = evidence_of(found, family, found.scores(), str)
    json.dumps(evidence, allow_nan=False)
    assert evidence["families"] == [family]
    assert family not in evidence["families_left_out"]
    assert 0 < evidence["mask_size"] <= SIZE * SIZE
    assert 0 <= evidence["flipped_by_smallest"] <= 1


def test_the_source_map_tells_what_each_class_becomes():
    found = run(backdoor="all-to-all")
    scores = found.scores()
    best = max(range(len(found.found["patch"].margins)), key=lambda slot: float(found.found["patch"].margins[slot, -1]))
    score = type(scores["patch"])(value=1.0, slot=best, arm=4, table=scores["patch"].table)
    rows = source_map(found, "patch", score)
    assert [row["class"] for row in rows] == [0, 1, 2, 3]
    assert [row["becomes"] for row in rows] == [1, 2, 3, 0]
    assert all(row["share"] == 1 for row in rows)
    assert sum(row["images"] for row in rows) == len(found.images.held_out)
