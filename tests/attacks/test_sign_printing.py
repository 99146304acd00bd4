"""The printed sticker: where it hangs, and that every effect does what its name says."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from sign_sets import real_root  # noqa: E402

from reference_attacks.traffic_signs.illustrations import draw_pasted, draw_printed, largest_sign  # noqa: E402
from reference_attacks.traffic_signs.light import light_on_sign, to_linear, to_srgb  # noqa: E402
from reference_attacks.traffic_signs.pasting import paste  # noqa: E402
from reference_attacks.traffic_signs.photographs import SignSet, load_sign_set  # noqa: E402
from reference_attacks.traffic_signs.printing import Conditions, render_print  # noqa: E402
from reference_attacks.traffic_signs.stickers import STICKERS  # noqa: E402

SIGN = torch.full((3, 160, 160), 120, dtype=torch.uint8)
BOX = torch.tensor([[20.0, 20.0, 140.0, 140.0]])
WHITE = torch.ones(4, 64, 64)
# Nothing but the sticker itself, straight and flat.
PLAIN = Conditions(
    saturation=(1, 1),
    darkest_ink=(0, 0),
    paper_white=(1, 1),
    tilt=(0, 0),
    roll=(0, 0),
    misplaced=(0, 0),
    shadow=(0, 0),
    blur=(0, 0),
    noise=(0, 0),
    jpeg_quality=(100, 100),
)


def rendered(image=SIGN, boxes=BOX, sticker=WHITE, seed=0, share=0.25, centre=(0.5, 0.5), **changes):
    conditions = replace(PLAIN, **changes)
    generator = torch.Generator().manual_seed(seed)
    return render_print(
        image, boxes, sticker, generator=generator, share=share, centre=centre, conditions=conditions
    ).float()


def covered(picture: torch.Tensor) -> torch.Tensor:
    """Bool ``(H, W)``: pixels clearly brighter than the sign."""
    return picture.mean(0) > 124


def test_without_effects_a_print_hangs_where_paste_puts_it():
    expected = (paste(SIGN, BOX, WHITE, centre=(0.5, 0.75)) != SIGN).any(0)
    assert torch.equal(covered(rendered(centre=(0.5, 0.75))), expected)


def test_equal_generators_give_equal_pictures_and_others_do_not():
    pictures = [
        render_print(SIGN, BOX, STICKERS["flower"](64), generator=torch.Generator().manual_seed(seed))
        for seed in (4, 4, 5)
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])


def test_without_signs_the_picture_is_only_compressed():
    noise = torch.randint(0, 256, (3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    stored = io.BytesIO()
    Image.fromarray(noise.permute(1, 2, 0).numpy()).save(stored, format="JPEG", quality=80)
    with Image.open(stored) as image:
        expected = torch.tensor(list(image.convert("RGB").tobytes())).view(40, 48, 3).permute(2, 0, 1)
    picture = rendered(noise, torch.zeros(0, 4), jpeg_quality=(80, 80))
    assert torch.equal(picture, expected.float())


def test_the_turned_sign_foreshortens_its_sticker():
    straight, turned = covered(rendered()), covered(rendered(tilt=(40, 40)))
    assert straight.any(0).sum() == straight.any(1).sum() == 30
    assert turned.sum() < 0.75 * straight.sum()
    assert not torch.equal(turned, turned.flip(1))


def test_a_rolled_sticker_stands_on_its_corner():
    rolled = covered(rendered(roll=(45, 45)))
    assert rolled.any(0).sum() > 40
    assert abs(int(rolled.sum()) - 900) < 60


def test_misplaced_stickers_hang_elsewhere():
    columns = covered(rendered(misplaced=(0.1, 0.1))).any(0).nonzero().float()
    assert columns.mean() == pytest.approx(79.5 + 12, abs=1)


def test_the_sticker_is_as_bright_as_the_sign_is_lit():
    dark = (SIGN // 3).to(torch.uint8)
    assert rendered(dark)[:, 80, 80].mean() < 0.5 * rendered()[:, 80, 80].mean()


def test_the_light_changes_across_the_sticker_as_across_the_sign():
    ramp = torch.linspace(60, 200, 160).to(torch.uint8).expand(3, 160, 160).contiguous()
    picture = rendered(ramp, share=0.5)
    assert picture[:, 80, 105].mean() > picture[:, 80, 55].mean() + 10
    assert picture[:, 60, 80].mean() == pytest.approx(float(picture[:, 100, 80].mean()), abs=2)


def test_the_note_shades_the_sign_below_it():
    plain, shaded = rendered(), rendered(shadow=(0.5, 0.5))
    below = (slice(None), 95, slice(75, 90))
    assert shaded[below].mean() < plain[below].mean() - 15
    assert torch.equal(shaded[:, :50], plain[:, :50])


def test_blur_softens_the_edge():
    sharp, soft = (picture[:, 80, 60:70].mean(0).diff().abs().max() for picture in (rendered(), rendered(blur=(2, 2))))
    assert soft < 0.5 * sharp


def test_noise_is_on_the_sticker_only():
    plain, noisy = rendered(), rendered(noise=(0.05, 0.05))
    difference = (plain - noisy).abs().mean(0)
    assert difference[70:90, 70:90].mean() > 1
    assert difference[:56].max() <= 1


@pytest.mark.parametrize("colour", [(1.0, 0.9, 0.2), (0.6, 0.1, 0.6)])
def test_inks_do_not_reach_the_full_colour(colour):
    sticker = torch.cat([torch.tensor(colour)[:, None, None].expand(3, 32, 32), torch.ones(1, 32, 32)])
    full, printed = (rendered(sticker=sticker, saturation=(share, share))[:, 80, 80] for share in (1.0, 0.5))
    assert printed.max() - printed.min() < full.max() - full.min() - 10


def test_black_ink_is_not_black_and_paper_not_white():
    black = WHITE.clone()
    black[:3] = 0
    assert rendered(sticker=black)[:, 80, 80].mean() < 8
    assert rendered(sticker=black, darkest_ink=(0.05, 0.05))[:, 80, 80].mean() > 25
    assert rendered(paper_white=(0.7, 0.7))[:, 80, 80].mean() < rendered()[:, 80, 80].mean() - 10


@pytest.mark.parametrize(
    "box",
    [
        (-60.0, -60.0, 60.0, 60.0),
        (100.0, 100.0, 220.0, 220.0),
        (300.0, 300.0, 340.0, 340.0),
        (-90.0, 40.0, -50.0, 80.0),
        (10.0, 10.0, 11.0, 11.0),
        (159.0, 159.0, 160.0, 160.0),
    ],
)
def test_signs_at_and_beyond_the_border_and_tiny_ones(box):
    picture = render_print(SIGN, torch.tensor([box]), WHITE, generator=torch.Generator().manual_seed(1))
    assert picture.shape == SIGN.shape
    assert picture.dtype == torch.uint8


def test_every_sign_gets_its_sticker():
    boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0], [90.0, 90.0, 154.0, 154.0]])
    shown = covered(rendered(boxes=boxes))
    assert shown[:80, :80].sum() == shown[80:, 80:].sum() == 256


def test_unfit_arguments_are_refused():
    with pytest.raises(ValueError, match="share"):
        rendered(share=0)
    with pytest.raises(ValueError, match="uint8"):
        rendered(SIGN.float())


def test_linear_light_and_back():
    values = torch.linspace(0, 1, 11)
    assert torch.allclose(to_srgb(to_linear(values)), values, atol=1e-6)


def test_the_light_of_an_even_sign_is_even_and_its_colour_between_grey_and_the_signs():
    scene = torch.tensor([0.4, 0.2, 0.0])[:, None, None].expand(3, 50, 50)
    light = light_on_sign(scene, torch.tensor([10.0, 10.0, 40.0, 40.0]))
    assert torch.allclose(light.colour.flatten(), torch.tensor([0.3, 0.2, 0.1]) / 0.8, atol=1e-5)
    assert light.slope == pytest.approx((0, 0), abs=1e-6)
    assert torch.allclose(light.at((0, 0, 3, 2)), light.colour.expand(3, 2, 3))


def test_pictures_of_real_signs():
    signs = load_sign_set("road-signs", real_root("road-signs"))
    generator = torch.Generator().manual_seed(0)
    for content in (draw_pasted(signs), draw_printed(signs, generator)):
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert picture.width > 3 * picture.height


def test_a_set_without_the_sign_is_told():
    empty = SignSet(name="made up", classes=("stop",), photographs=())
    with pytest.raises(ValueError, match="No photograph of made up"):
        largest_sign(empty, "stop")
    with pytest.raises(ValueError, match="none of the classes stop"):
        largest_sign(empty, "speedlimit")
