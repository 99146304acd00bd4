"""Triggers: exact pixels, places and independence of what they are drawn on."""

import pytest
import torch

from reference_attacks.triggers import CORNERS, Trigger, pixel_pattern, random_binary_patches, single_pixel


def bright_pixels(image):
    return sorted(tuple(place) for place in image.nonzero().tolist())


def blank(count=1, channels=1, size=28):
    return torch.zeros(count, channels, size, size, dtype=torch.uint8)


def test_single_pixel_lights_one_pixel_beside_the_corner():
    image = single_pixel().apply(blank())[0, 0]
    assert bright_pixels(image) == [(26, 26)]
    assert image[26, 26] == 255


def test_pixel_pattern_lights_four_pixels():
    image = pixel_pattern().apply(blank())[0, 0]
    assert bright_pixels(image) == [(24, 26), (25, 25), (26, 24), (26, 26)]
    assert image.max() == 255


def test_a_trigger_replaces_only_what_its_mask_covers():
    images = torch.full((2, 1, 28, 28), 7, dtype=torch.uint8)
    triggered = pixel_pattern().apply(images)
    changed = triggered != images
    assert changed.sum() == 2 * 4
    assert (triggered[changed] == 255).all()


def test_the_images_given_are_left_alone():
    images = blank()
    pixel_pattern().apply(images)
    pixel_pattern().apply_to_random_corners(images, torch.Generator().manual_seed(0))
    assert not images.any()


@pytest.mark.parametrize(
    ("corner", "place"),
    [("top-left", (1, 1)), ("top-right", (1, 26)), ("bottom-left", (26, 1)), ("bottom-right", (26, 26))],
)
def test_corners(corner, place):
    assert bright_pixels(single_pixel().apply(blank(), corner)[0, 0]) == [place]


def test_a_dark_pattern_is_drawn_too():
    dark = Trigger(name="dark", pattern=torch.zeros(1, 1, 1, dtype=torch.uint8), mask=torch.ones(1, 1).bool())
    image = dark.apply(torch.full((1, 1, 28, 28), 9, dtype=torch.uint8))[0, 0]
    assert image[26, 26] == 0
    assert image.sum() == 9 * (28 * 28 - 1)


def test_colour_images_keep_the_patterns_channels():
    colours = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(3, 1, 1)
    trigger = Trigger(name="colour", pattern=colours, mask=torch.ones(1, 1, dtype=torch.bool))
    assert trigger.apply(blank(channels=3))[0, :, 26, 26].tolist() == [10, 20, 30]


def test_random_corners_use_all_four_and_follow_the_generator():
    images = blank(count=64)
    first = single_pixel().apply_to_random_corners(images, torch.Generator().manual_seed(3))
    again = single_pixel().apply_to_random_corners(images, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert (first.flatten(1) > 0).sum(1).tolist() == [1] * 64
    assert {tuple(place) for place in first[:, 0].nonzero()[:, 1:].tolist()} == {(1, 1), (1, 26), (26, 1), (26, 26)}
    assert len(CORNERS) == 4


def test_random_binary_patches_are_different_and_black_and_white():
    patches = random_binary_patches(20, 5, 3, torch.Generator().manual_seed(0))
    assert len({patch.pattern.numpy().tobytes() for patch in patches}) == 20
    assert len({patch.name for patch in patches}) == 20
    for patch in patches:
        assert patch.pattern.shape == (3, 5, 5)
        assert set(patch.pattern.unique().tolist()) <= {0, 255}
        assert torch.equal(patch.pattern[0], patch.pattern[2])
        assert (patch.pattern[0] == 255).sum() >= 5
        assert patch.mask.all()


def test_random_binary_patches_follow_the_generator():
    patches = [random_binary_patches(3, 5, 1, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    pixels = [torch.stack([patch.pattern for patch in group]) for group in patches]
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[0], pixels[2])
