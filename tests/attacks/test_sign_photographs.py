from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from sign_sets import HEIGHT, WIDTH, picture, real_root  # noqa: E402

from reference_attacks.traffic_signs.photographs import Photograph, SignSet, load_sign_set  # noqa: E402


def made_up(*labels: tuple[int, ...]) -> SignSet:
    photographs = tuple(
        Photograph(path=Path(f"{number}.png"), boxes=torch.zeros(len(each), 4), labels=torch.tensor(each).long())
        for number, each in enumerate(labels)
    )
    return SignSet(name="made up", classes=("a", "b", "c"), photographs=photographs)


def names(part: SignSet) -> set[str]:
    return {photograph.path.name for photograph in part.photographs}


def test_reading_gives_rgb_rows_and_columns(tmp_path):
    path = picture(tmp_path / "one.png", (10, 200, 30))
    pixels = Photograph(path=path, boxes=torch.zeros(0, 4), labels=torch.zeros(0).long()).read()
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, HEIGHT, WIDTH)
    assert pixels[:, 0, 0].tolist() == [10, 200, 30]


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_an_unreadable_picture_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png is not a picture"):
        Photograph(path=path, boxes=torch.zeros(0, 4), labels=torch.zeros(0).long()).read()


def test_a_split_has_every_photograph_once_and_follows_the_generator():
    whole = made_up(*[(0,)] * 40, *[(0, 1)] * 10)
    training, held_out = whole.split(0.8, torch.Generator().manual_seed(1))
    assert names(training) | names(held_out) == names(whole)
    assert not names(training) & names(held_out)
    assert len(training.photographs) == 40
    again, _ = whole.split(0.8, torch.Generator().manual_seed(1))
    other, _ = whole.split(0.8, torch.Generator().manual_seed(2))
    assert names(training) == names(again) != names(other)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_rare_classes_are_in_both_parts(share):
    whole = made_up(*[(0,)] * 60, (0, 1), (0, 1, 1), (0, 2), (2,), (), ())
    for part in whole.split(share, torch.Generator().manual_seed(0)):
        present = Counter(label for photograph in part.photographs for label in photograph.labels.tolist())
        assert set(present) == {0, 1, 2}
        assert any(len(photograph.labels) == 0 for photograph in part.photographs)


def test_the_only_photograph_of_a_class_is_for_training():
    training, held_out = made_up((0,), (0,), (1,)).split(0.5, torch.Generator().manual_seed(0))
    assert "2.png" in names(training)
    assert held_out.photographs


@pytest.mark.parametrize("share", [0, 1, -0.2, 3])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="training share"):
        made_up((0,)).split(share, torch.Generator())


def test_the_real_road_signs():
    signs = load_sign_set("road-signs", real_root("road-signs"))
    assert signs.classes == ("stop", "speedlimit", "crosswalk", "trafficlight")
    assert len(signs.photographs) == 877
    labels = torch.cat([photograph.labels for photograph in signs.photographs])
    assert labels.bincount().tolist() == [91, 783, 200, 170]
    for photograph in signs.photographs[:20]:
        _, height, width = photograph.read().shape
        assert (photograph.boxes >= 0).all()
        assert (photograph.boxes[:, 2:] <= torch.tensor([width, height])).all()


def test_the_real_german_benchmark():
    signs = load_sign_set("gtsdb", real_root("gtsdb"))
    assert signs.classes == ("prohibitory", "mandatory", "danger", "other")
    assert len(signs.photographs) == 741
    first = signs.photographs[0]
    assert first.path.stem == "00000"
    assert first.boxes.tolist() == [[217.0, 182.0, 259.0, 218.0]]
    assert signs.classes[int(first.labels[0])] == "danger"
