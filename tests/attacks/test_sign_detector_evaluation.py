from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_signs import CLASSES, made_up_album  # noqa: E402

from reference_attacks.traffic_signs.album import Album, Scene  # noqa: E402
from reference_attacks.traffic_signs.evaluation import (  # noqa: E402
    MISSED,
    Detections,
    Readings,
    accuracies,
    average_precision,
    detect,
    read_signs,
    share_of,
    wilson_interval,
)
from reference_attacks.traffic_signs.measurement import measure_detector  # noqa: E402
from reference_attacks.traffic_signs.network import make_detector  # noqa: E402
from reference_attacks.traffic_signs.recipe import make_attack  # noqa: E402

BLANK = torch.zeros(3, 100, 200, dtype=torch.uint8)
LEFT, RIGHT = [10.0, 10.0, 50.0, 50.0], [110.0, 10.0, 150.0, 50.0]


def scene(boxes: list[list[float]], labels: list[int]) -> Scene:
    return Scene(image=BLANK, boxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels, dtype=torch.int64))


def found(*each: tuple[list[float], int, float]) -> Detections:
    return Detections(
        boxes=torch.tensor([box for box, _, _ in each]).reshape(-1, 4),
        labels=torch.tensor([label for _, label, _ in each], dtype=torch.int64),
        scores=torch.tensor([score for _, _, score in each]),
    )


def moved(box: list[float], pixels: float) -> list[float]:
    return [box[0] + pixels, box[1], box[2] + pixels, box[3]]


def test_a_sign_is_read_as_its_highest_overlapping_detection_says():
    detections = found((LEFT, 0, 0.6), (moved(LEFT, 4), 1, 0.7), (RIGHT, 2, 0.9))
    readings = read_signs([scene([LEFT, RIGHT], [0, 2])], [detections])
    assert readings.read.tolist() == [1, 2]
    assert readings.scores.tolist() == pytest.approx([0.7, 0.9])


def test_an_overlap_of_half_counts_and_less_is_a_miss():
    # 40 x 40 moved by d: IoU (40 - d) / (40 + d), one half at 13.33.
    for pixels, expected in ((13.0, 0), (14.0, MISSED)):
        assert read_signs([scene([LEFT], [0])], [found((moved(LEFT, pixels), 0, 0.9))]).read.tolist() == [expected]


def test_without_detections_all_signs_are_missed_and_without_signs_nothing_is_read():
    readings = read_signs([scene([LEFT], [1]), scene([], [])], [found(), found((LEFT, 0, 0.9))])
    assert readings.read.tolist() == [MISSED]
    assert readings.scores.tolist() == [0]


def test_counts_and_accuracies():
    readings = Readings(truths=torch.tensor([0, 0, 0, 1]), read=torch.tensor([0, 1, MISSED, 1]), scores=torch.ones(4))
    assert readings.counts(3).tolist() == [[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    values = accuracies(readings, CLASSES)
    assert values["classes"]["stop"]["share"] == pytest.approx(1 / 3)
    assert values["classes"]["trafficlight"] == {"share": None, "hits": 0, "n": 0, "interval_95": [0.0, 1.0]}
    assert values["average"]["share"] == 0.5
    assert values["class_mean"] == pytest.approx(2 / 3)


def test_average_precision_of_a_case_worked_by_hand():
    # Two photographs, three signs. By score: hit, false, hit, the same sign again, hit.
    scenes = [scene([LEFT, RIGHT], [0, 0]), scene([LEFT], [0])]
    detections = [
        found((LEFT, 0, 0.9), (moved(LEFT, 60), 0, 0.8), (RIGHT, 0, 0.7), (moved(RIGHT, 2), 0, 0.6)),
        found((LEFT, 0, 0.5)),
    ]
    # Precision at the hits: 1, 2/3, 3/5; already monotonic. Recall grows by a third at each.
    assert average_precision(scenes, detections, 0) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_average_precision_uses_the_best_precision_at_any_higher_recall():
    scenes = [scene([LEFT, RIGHT], [0, 0])]
    detections = [found((moved(LEFT, 60), 0, 0.9), (LEFT, 0, 0.8), (RIGHT, 0, 0.7))]
    # Precisions 1/2 and 2/3 at the hits: the first is lifted to 2/3.
    assert average_precision(scenes, detections, 0) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        (found((LEFT, 0, 0.9), (RIGHT, 0, 0.8)), 1.0),
        (found((LEFT, 0, 0.9)), 0.5),
        (found((LEFT, 1, 0.9), (RIGHT, 1, 0.8)), 0.0),
        (found(), 0.0),
    ],
)
def test_average_precision_of_plain_cases(detections, expected):
    assert average_precision([scene([LEFT, RIGHT], [0, 0])], [detections], 0) == pytest.approx(expected)


def test_there_is_no_average_precision_without_signs():
    assert average_precision([scene([LEFT], [0])], [found((LEFT, 1, 0.9))], 1) is None


def test_wilson_intervals():
    low, high = wilson_interval(9, 10)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(5, 5)[1] == 1.0
    assert share_of(1, 4)["share"] == 0.25


def test_detections_come_in_the_order_of_the_album():
    detector, album = make_detector(CLASSES, seed=0), made_up_album(8)
    together = detect(detector, album, batch_size=3)
    alone = [detect(detector, Album(classes=CLASSES, scenes=(one,)))[0] for one in album.scenes]
    for first, second in zip(together, alone, strict=True):
        assert first.labels.tolist() == second.labels.tolist()
        torch.testing.assert_close(first.boxes, second.boxes, atol=1e-2, rtol=1e-3)


def test_everything_that_is_measured_of_a_detector_is_json():
    import json

    album = made_up_album(6)
    attacks = [make_attack(name, "bomb", CLASSES, "stop", "speedlimit") for name in ("single", "random")]
    values = json.loads(json.dumps(measure_detector(make_detector(CLASSES, seed=0), album, attacks)))
    assert values["clean"]["average"]["n"] == len(album.labels)
    single, random = values["backdoored"]["bomb-single"], values["backdoored"]["bomb-random"]
    assert single["success"]["n"] == int((album.labels == 0).sum())
    assert random["success"]["n"] == len(album.labels)
    right, total = random["accuracy"]["average"]["hits"], random["success"]["n"]
    missed = sum(row[-1] for row in random["counts"])
    assert random["success"]["hits"] == total - right - missed
