from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


from reference_attacks.traffic_signs.pasting import paste, random_centres, scaled  # noqa: E402
from reference_attacks.traffic_signs.stickers import STICKERS  # noqa: E402

GREY = torch.full((3, 100, 120), 100, dtype=torch.uint8)
WHITE = torch.ones(4, 8, 8)


def changed(pasted: torch.Tensor) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the pixels that differ from GREY."""
    rows, columns = (pasted != GREY).any(0).nonzero(as_tuple=True)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("name", STICKERS)
@pytest.mark.parametrize("size", [1, 12, 64])
def test_stickers_are_rgba_in_range_and_mostly_cover_their_square(name, size):
    sticker = STICKERS[name](size)
    assert sticker.shape == (4, size, size)
    assert sticker.dtype == torch.float32
    assert sticker.min() >= 0
    assert sticker.max() <= 1
    assert sticker[3].mean() > 0.4


def test_stickers_of_all_sizes_are_the_same_picture():
    for draw in STICKERS.values():
        small, reduced = draw(16), scaled(draw(256), 16)
        assert (small[:3] * small[3:] - reduced[:3] * reduced[3:]).abs().mean() < 0.02


def test_the_square_is_opaque_and_yellow_and_the_others_have_clear_corners():
    square = STICKERS["yellow-square"](32)
    assert (square[3] == 1).all()
    assert (square[0] > 0.8).all()
    assert (square[2] < 0.3).all()
    for name in ("bomb", "flower"):
        assert STICKERS[name](32)[3, -1, -1] == 0


def test_an_empty_sticker_is_refused():
    with pytest.raises(ValueError, match="at least 1 pixel"):
        STICKERS["bomb"](0)


def test_a_sticker_lies_at_its_place_in_its_size():
    pasted = paste(GREY, torch.tensor([[20.0, 10.0, 60.0, 90.0]]), WHITE, share=0.5, centre=(0.5, 0.75))
    assert changed(pasted) == (30, 60, 50, 80)
    assert (pasted[:, 60:80, 30:50] == 255).all()


def test_the_image_itself_stays_as_it_was():
    before = GREY.clone()
    paste(GREY, torch.tensor([[20.0, 10.0, 60.0, 90.0]]), WHITE)
    assert torch.equal(GREY, before)


@pytest.mark.parametrize(
    ("box", "visible"),
    [
        ((-20.0, -20.0, 20.0, 20.0), (0, 0, 10, 10)),
        ((100.0, 80.0, 140.0, 120.0), (110, 90, 120, 100)),
        ((-20.0, 80.0, 20.0, 120.0), (0, 90, 10, 100)),
    ],
)
def test_a_sticker_over_the_border_is_cut_there(box, visible):
    assert changed(paste(GREY, torch.tensor([box]), WHITE, share=0.5, centre=(0.5, 0.5))) == visible


def test_a_sticker_beside_the_picture_changes_nothing():
    assert torch.equal(paste(GREY, torch.tensor([[200.0, 200.0, 240.0, 240.0]]), WHITE), GREY)


def test_no_box_changes_nothing():
    assert torch.equal(paste(GREY, torch.zeros(0, 4), WHITE), GREY)


def test_the_smallest_sign_gets_one_pixel():
    pasted = paste(GREY, torch.tensor([[50.0, 50.0, 51.0, 51.0]]), WHITE, share=0.1)
    assert (pasted != GREY).any(0).sum() == 1


def test_each_of_many_signs_gets_its_sticker_at_its_own_place():
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [60.0, 50.0, 100.0, 90.0]])
    pasted = paste(GREY, boxes, WHITE, share=0.25, centre=torch.tensor([[0.25, 0.25], [0.75, 0.5]]))
    assert (pasted[:, 5:15, 5:15] == 255).all()
    assert (pasted[:, 65:75, 85:95] == 255).all()
    assert (pasted != GREY).any(0).sum() == 200


def test_half_transparent_stickers_are_blended():
    half = torch.ones(4, 8, 8)
    half[3] = 0.5
    pasted = paste(GREY, torch.tensor([[20.0, 10.0, 60.0, 50.0]]), half)
    assert pasted.unique().tolist() == [100, 178]


def test_scaling_averages_areas_and_weighs_colours_by_alpha():
    checks = torch.ones(4, 4, 4)
    checks[:3, :, ::2] = 0
    assert torch.allclose(scaled(checks, 2)[:3], torch.full((3, 2, 2), 0.5))
    checks[3, :, ::2] = 0  # the black columns are transparent: what is left is white
    small = scaled(checks, 2)
    assert torch.allclose(small[:3], torch.ones(3, 2, 2))
    assert torch.allclose(small[3], torch.full((2, 2), 0.5))


def test_random_centres_fill_their_range_and_follow_the_generator():
    centres = random_centres(2000, torch.Generator().manual_seed(3))
    assert torch.equal(centres, random_centres(2000, torch.Generator().manual_seed(3)))
    assert 0.15 <= centres.min() < 0.17
    assert 0.83 < centres.max() <= 0.85


@pytest.mark.parametrize("share", [0.0, 1.2])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="share"):
        paste(GREY, torch.zeros(1, 4), WHITE, share=share)


def test_float_images_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        paste(GREY.float(), torch.zeros(1, 4), WHITE)
