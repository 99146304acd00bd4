"""Triggers as overlays, against arithmetic by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from reference_attacks.overlays import BLEND, WAVE_HEIGHT, blended, patch, wave  # noqa: E402
from reference_attacks.zoo.triggers import NAMED, TRIGGERS, make_overlay, random_patches, trigger_numbers  # noqa: E402

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
KINDS = ("patch3", "patch5", "patch16", *NAMED)


def checkerboard(channels: int, size: int) -> torch.Tensor:
    return (torch.arange(channels * size * size) % 2).float().view(channels, size, size)


@pytest.mark.parametrize("shape", [GREY, COLOUR, (3, 20, 30)])
def test_a_patch_in_the_corners_covers_each_corner_and_nothing_else(shape):
    pattern = checkerboard(shape[0], 5)
    overlay = patch(pattern, shape, "corners")
    images = torch.full((4, *shape), 0.3)
    changed = overlay.apply(images, torch.arange(4))
    _, height, width = shape
    corners = [(1, 1), (1, width - 6), (height - 6, 1), (height - 6, width - 6)]
    for image, (row, column) in zip(changed, corners, strict=True):
        expected = torch.full(shape, 0.3)
        expected[:, row : row + 5, column : column + 5] = pattern
        assert torch.equal(image, expected)


@pytest.mark.parametrize("size", [3, 5, 8])
def test_a_patch_in_the_centre_takes_every_place_in_the_middle_two_thirds(size):
    overlay = patch(torch.ones(3, size, size), COLOUR, "centre")
    covered = overlay.keep[:, 0] == 0
    assert (covered.flatten(1).sum(1) == size * size).all()
    places = {tuple(place.nonzero().amin(0).tolist()) for place in covered}
    assert places == {(row, column) for row in range(5, 28 - size) for column in range(5, 28 - size)}
    assert len(overlay) == len(places)


def test_blending_by_hand():
    overlay = blended(torch.tensor([[[0.0, 1.0]]]))
    assert BLEND == 0.2
    found = overlay.apply(torch.tensor([[[[0.5, 0.5]]], [[[1.0, 1.0]]]]), torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found, torch.tensor([[[[0.4, 0.6]]], [[[0.8, 1.0]]]]))


@pytest.mark.parametrize(("cycles", "width"), [(2, 28), (4, 32), (7, 28), (8, 32)])
def test_a_wave_repeats_and_has_its_height(cycles, width):
    signal = wave(cycles, (3, 6, width)).add[0]
    period = width // cycles
    torch.testing.assert_close(signal[..., period:], signal[..., :-period], rtol=0, atol=1e-6)
    by_hand = [30 / 255 * math.sin(2 * math.pi * cycles * column / width) for column in range(width)]
    torch.testing.assert_close(signal[2, 5], torch.tensor(by_hand), rtol=0, atol=1e-6)
    assert WAVE_HEIGHT == 30 / 255
    assert (signal == signal[0, 0]).all()


@pytest.mark.parametrize("place", ["corners", "centre"])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("kind", KINDS)
def test_every_trigger_stays_within_the_range_of_images(kind, shape, place):
    for number in (0, TRIGGERS - 1):
        overlay = make_overlay(kind, number, shape, place, seed=1)
        assert overlay.keep.shape[1:] == (1, *shape[1:])
        assert overlay.add.shape[1:] == shape
        assert len(overlay.keep) == len(overlay.add) == len(overlay) >= 1
        everywhere = torch.arange(len(overlay))
        for level in (0.0, 0.5, 1.0):
            found = overlay.apply(torch.full((len(overlay), *shape), level), everywhere)
            assert found.min() >= 0
            assert found.max() <= 1


@pytest.mark.parametrize("shape", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "kind",
    ["patch3", "patch5", "patch16", "blended", "wave"],
)
def test_the_triggers_of_a_kind_differ_and_each_changes_the_image(kind, shape):
    grey = torch.full((1, *shape), 0.5)
    changes = [
        make_overlay(kind, number, shape, "corners", seed=0).apply(grey, torch.tensor([0])) - grey
        for number in range(TRIGGERS)
    ]
    assert all(change.abs().max() > 0.05 for change in changes)
    # A wave is the same trigger upside down.
    for number, change in enumerate(changes):
        for other in changes[:number]:
            assert min((change - other).abs().max(), (change + other).abs().max()) > 0.01


def test_triggers_depend_on_the_seed_and_the_number_alone():
    first, again, other = (random_patches(5, 3, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_every_second_patch_on_colour_images_is_grey():
    patches = random_patches(5, 3, seed=0)
    grey = [bool((pattern == pattern[:1]).all()) for pattern in patches]
    assert grey == [True, False] * (TRIGGERS // 2)


def test_the_triggers_for_fitting_and_for_testing_are_disjoint_and_complete():
    fit, test = trigger_numbers("fit"), trigger_numbers("test")
    assert sorted(fit + test) == list(range(TRIGGERS))


@pytest.mark.parametrize("kind", ["patch", "patch2", "patch05", "patch17", "patch-5", "smiley", ""])
def test_unknown_kinds_are_refused_with_what_there_is(kind):
    with pytest.raises(
        ValueError, match=r"There is no trigger .*; choose one of patch3 to patch16, pixel, blended, wave"
    ):
        make_overlay(kind, 0, GREY, "corners", seed=0)
