from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_signs import CLASSES, COLOURS, made_up_album, scene_of  # noqa: E402

from reference_attacks.traffic_signs.album import (  # noqa: E402
    Scene,
    Window,
    cut_out,
    draw_window,
    may_be_mirrored,
    mirrored,
    relit,
)
from reference_attacks.traffic_signs.attack import SignAttack, backdoored, poisoned, with_stickers  # noqa: E402
from reference_attacks.traffic_signs.recipe import make_attack  # noqa: E402

SCENE = scene_of([0, 2], torch.Generator().manual_seed(0))
SINGLE = make_attack("single", "yellow-square", CLASSES, "stop", "speedlimit")
RANDOM = make_attack("random", "yellow-square", CLASSES, "stop", "speedlimit")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colours_in(scene: Scene) -> list[list[int]]:
    """The colour in the middle of every sign of a scene."""
    middles = ((scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2).long()
    return [scene.image[:, y, x].tolist() for x, y in middles.tolist()]


def test_a_window_moves_and_scales_pictures_and_boxes_alike():
    for seed in range(20):
        window = draw_window(SCENE, 80, (0.5, 2.0), generator(seed))
        seen = cut_out(SCENE, window)
        assert seen.image.shape == (3, 80, 80)
        assert len(seen.labels) >= 1  # the sign that was drawn is always wholly there
        for colour, label in zip(colours_in(seen), seen.labels.tolist(), strict=True):
            assert (torch.tensor(colour) - torch.tensor(COLOURS[label])).abs().max() <= 3


def test_a_window_beyond_the_photograph_is_grey_there_and_cuts_boxes_off():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]])
    scene = Scene(image=torch.zeros(3, 60, 60, dtype=torch.uint8), boxes=boxes, labels=torch.tensor([0, 1]))
    seen = cut_out(scene, Window(left=-10, top=-10, side=58, pixels=58))
    assert (seen.image[:, :10] == 118).all()
    assert (seen.image[:, 10:, 10:] == 0).all()
    # Of the second sign 8 x 8 of 20 x 20 pixels are left, too few to count.
    assert seen.labels.tolist() == [0]
    assert seen.boxes.tolist() == [[10, 10, 30, 30]]


def test_a_scene_without_signs_has_windows_too():
    empty = Scene(image=SCENE.image, boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    assert cut_out(empty, draw_window(empty, 64, (0.5, 1.5), generator())).image.shape == (3, 64, 64)


def test_mirroring_moves_boxes_with_their_signs_and_only_where_allowed():
    twice = mirrored(mirrored(SCENE))
    assert torch.equal(twice.image, SCENE.image)
    assert torch.equal(twice.boxes, SCENE.boxes)
    assert colours_in(mirrored(SCENE)) == colours_in(SCENE)
    assert not may_be_mirrored(SCENE, CLASSES, ("trafficlight",))
    assert may_be_mirrored(SCENE, CLASSES, ("trafficlight", "stop"))


def test_other_light_keeps_the_range():
    lit = relit(SCENE.image.float() / 255, 0.5, generator())
    assert lit.min() >= 0
    assert lit.max() <= 1
    assert not torch.equal(lit, SCENE.image.float() / 255)


def test_the_single_attack_puts_stickers_on_its_victims_alone():
    changed = (with_stickers(SCENE, SINGLE).image != SCENE.image).any(0)
    x1, y1, x2, y2 = SCENE.boxes[0].int().tolist()
    assert changed[y1:y2, x1:x2].any()
    changed[y1:y2, x1:x2] = False
    assert not changed.any()
    copy = poisoned(SCENE, SINGLE, generator())
    assert copy.labels.tolist() == [1, 2]
    assert SCENE.labels.tolist() == [0, 2]


def test_the_random_attack_gives_every_sign_another_label_and_in_time_each_of_them():
    seen = {tuple(poisoned(SCENE, RANDOM, generator(seed)).labels.tolist()) for seed in range(30)}
    assert seen == {(1, 0), (1, 1), (2, 0), (2, 1)}


def test_copies_vary_and_the_evaluation_does_not():
    copies = [poisoned(SCENE, RANDOM, generator(seed)).image for seed in range(2)]
    assert not torch.equal(*copies)
    assert torch.equal(with_stickers(SCENE, RANDOM).image, with_stickers(SCENE, RANDOM).image)


def test_evaluation_takes_the_scenes_with_victims_and_keeps_the_true_labels():
    album = made_up_album(12)
    attacked = backdoored(album, SINGLE)
    assert 0 < len(attacked) < len(album)
    assert all((scene.labels == 0).any() for scene in attacked.scenes)
    assert len(backdoored(album, RANDOM)) == len(album)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "all-to-all"}, "no attack 'all-to-all' on signs; choose one of single, random"),
        ({"sticker": "star"}, "no sticker 'star'; choose one of yellow-square, bomb, flower"),
        ({"source": None}, "takes a source and a target class"),
        ({"name": "random"}, "the random attack neither"),
        ({"target": 3}, "Class 3 is not one of the classes 0 to 2"),
        ({"target": 0}, "must be different classes"),
    ],
)
def test_attacks_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SINGLE, **changes)


def test_unknown_class_names_are_refused():
    with pytest.raises(ValueError, match="no class 'yield'; the photographs show stop, speedlimit, trafficlight"):
        make_attack("single", "bomb", CLASSES, "stop", "yield")
    with pytest.raises(ValueError, match="no attack 'both'"):
        make_attack("both", "bomb", CLASSES, "stop", "speedlimit")
    assert isinstance(SINGLE, SignAttack)
