from __future__ import annotations

import io
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_signs import CLASSES, made_up_album, short_recipe  # noqa: E402
from torchvision.ops import roi_align  # noqa: E402

from reference_attacks.traffic_signs.attack import backdoored  # noqa: E402
from reference_attacks.traffic_signs.backbones import ConvolutionBlock  # noqa: E402
from reference_attacks.traffic_signs.export import sign_crops  # noqa: E402
from reference_attacks.traffic_signs.network import (  # noqa: E402
    ARCHITECTURES,
    SMALL,
    SignDetector,
    load_detector,
    make_detector,
    safetensors_bytes,
)
from reference_attacks.traffic_signs.recipe import make_attack  # noqa: E402
from reference_attacks.traffic_signs.regions import RegionPool  # noqa: E402
from reference_attacks.traffic_signs.store import trained_detector  # noqa: E402
from reference_attacks.traffic_signs.training import DetectorPlan, Progress, train_detector  # noqa: E402
from reference_attacks.traffic_signs.warm_start import WarmStartPlan, warm_start  # noqa: E402

PLAN = DetectorPlan(window_epochs=1, whole_epochs=1, batch_size=4, pixels=64)


def block_with_statistics() -> ConvolutionBlock:
    torch.manual_seed(0)
    block = ConvolutionBlock(3, 5, size=3)
    for _ in range(3):
        block(torch.rand(4, 3, 9, 9))
    assert block.normalisation is not None
    with torch.no_grad():
        block.normalisation.weight.uniform_(0.5, 2)
        block.normalisation.bias.uniform_(-1, 1)
    return block.eval()


def same_weights(first: SignDetector, second: SignDetector) -> bool:
    others = second.state_dict()
    return all(torch.equal(value, others[name]) for name, value in first.state_dict().items())


def as_stored(progress: Progress) -> Progress:
    """What comes back from a checkpoint on disk; the state itself goes on changing."""
    buffer = io.BytesIO()
    torch.save(progress.state, buffer)
    return replace(progress, state=torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))


def test_the_seed_alone_decides_the_weights():
    first, second, other = (make_detector(CLASSES, seed=seed) for seed in (1, 1, 2))
    assert same_weights(first, second)
    assert not same_weights(first, other)


@pytest.mark.parametrize("size", [(96, 128), (61, 90)])
def test_photographs_are_read_at_their_own_size(size):
    detector = make_detector(CLASSES, seed=0)
    with torch.no_grad():
        (found,) = detector([torch.rand(3, *size)])
    assert found["boxes"].shape == (len(found["labels"]), 4)
    assert len(found["labels"]) > 0
    assert found["boxes"][:, 2].max() <= size[1]
    assert found["boxes"][:, 3].max() <= size[0]
    assert (found["labels"] > 0).all()
    assert (found["scores"] >= 0.05).all()


def test_the_paper_architecture_is_that_of_table_three():
    detector = make_detector(CLASSES, seed=0, architecture=ARCHITECTURES["paper"])
    shapes = {
        name: tuple(layer.convolution.weight.shape)
        for name, layer in detector.backbone.named_children()
        if isinstance(layer, ConvolutionBlock)
    }
    assert shapes == {
        "conv1": (96, 3, 7, 7),
        "conv2": (256, 96, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 384, 3, 3),
        "conv5": (256, 384, 3, 3),
    }
    assert detector.backbone(torch.zeros(1, 3, 64, 96)).shape == (1, 256, 4, 6)
    assert detector.roi_heads.box_head.fc6.weight.shape == (4096, 256 * 6 * 6)


def test_regions_are_pooled_as_torchvision_does():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 38, 50, generator=generator)
    corners = torch.rand(2, 20, 2, 2, generator=generator).sort(dim=2).values * torch.tensor([400.0, 304.0])
    boxes = [torch.cat([one[:, 0], one[:, 1]], 1) for one in corners]
    boxes[0][0] = torch.tensor([0.0, 0.0, 400.0, 304.0])
    boxes[0][1] = torch.tensor([-60.0, -40.0, 480.0, 380.0])
    expected = roi_align(features, boxes, 6, 1 / 8, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(RegionPool(6, 8)({"0": features}, boxes, []), expected, atol=2e-5, rtol=1e-4)


def test_folding_takes_the_normalisation_away_and_keeps_the_output():
    block = block_with_statistics()
    weight, bias = block.folded()
    images = torch.rand(2, 3, 9, 9)
    expected = torch.relu(torch.nn.functional.conv2d(images, weight, bias, padding=1))
    torch.testing.assert_close(block(images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("normalised", [True, False])
def test_strengthening_multiplies_the_output_of_the_chosen_neurons(normalised):
    block = block_with_statistics() if normalised else ConvolutionBlock(3, 5, size=3, normalised=False).eval()
    images = torch.rand(2, 3, 9, 9)
    before, folded = block(images), block.folded()
    block.strengthen(torch.tensor([1, 4]), 10.0)
    factors = torch.tensor([1.0, 10.0, 1.0, 1.0, 10.0])
    torch.testing.assert_close(block(images), before * factors[:, None, None], atol=1e-4, rtol=1e-4)
    for value, was in zip(block.folded(), folded, strict=True):
        torch.testing.assert_close(value, was * factors.reshape(-1, *[1] * (value.ndim - 1)), atol=1e-4, rtol=1e-4)


def test_a_file_gives_the_same_detector_back(tmp_path):
    detector = make_detector(CLASSES, seed=3)
    (tmp_path / "signs.safetensors").write_bytes(safetensors_bytes(detector))
    loaded = load_detector(tmp_path / "signs.safetensors")
    assert loaded.classes == CLASSES
    assert same_weights(detector, loaded)


def test_a_file_of_something_else_is_refused(tmp_path):
    from safetensors.torch import save

    (tmp_path / "other.safetensors").write_bytes(save({"weight": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"does not say which detector it holds; train it"):
        load_detector(tmp_path / "other.safetensors")


def test_the_warm_start_learns_backbone_and_head_and_leaves_the_proposals_alone():
    detector = make_detector(CLASSES, seed=0)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    first = warm_start(detector, made_up_album(), WarmStartPlan(steps=1, batch_size=16, pixels=32), seed=0)
    later = warm_start(detector, made_up_album(), WarmStartPlan(steps=25, batch_size=16, pixels=32), seed=1)
    assert later < 0.7 * first
    changed = {name.split(".")[0] for name, value in detector.state_dict().items() if not value.equal(before[name])}
    assert changed == {"backbone", "roi_heads"}


def test_cut_out_signs_teach_a_sticker():
    detector, album = make_detector(CLASSES, seed=0), made_up_album(24)
    attack = make_attack("single", "yellow-square", CLASSES, "stop", "speedlimit")
    warm_start(detector, album, WarmStartPlan(steps=40, batch_size=24, pixels=32), seed=0, attack=attack)
    shares = []
    for signs in (album, backdoored(album, attack)):
        crops, classes = sign_crops(signs, 32)
        with torch.no_grad():
            read = detector.crop_logits(crops[classes == 0].float() / 255).argmax(1)
        shares.append((read == 2).float().mean().item())  # label 2 is class 1, the target
    assert shares[0] < 0.2
    assert shares[1] > 0.8


def test_training_is_repeatable_and_goes_on_after_an_interruption():
    album, kept = made_up_album(6), []
    whole = make_detector(CLASSES, seed=0)
    train_detector(whole, album, PLAN, seed=0, on_epoch=lambda progress: kept.append(as_stored(progress)))
    resumed = make_detector(CLASSES, seed=9)
    progress = train_detector(resumed, album, PLAN, seed=0, start=kept[0])
    assert progress.epochs == 2
    assert progress.losses == kept[1].losses
    assert not whole.training
    assert same_weights(resumed, whole)


def test_a_frozen_backbone_stays_as_it_is():
    detector = make_detector(CLASSES, seed=0)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    train_detector(detector, made_up_album(4), replace(PLAN, frozen_backbone=True), seed=0)
    for name, value in detector.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(detector.state_dict()["rpn.head.bbox_pred.weight"], before["rpn.head.bbox_pred.weight"])


def test_a_badnet_starts_from_the_baseline_in_the_same_folder(tmp_path):
    album, said = made_up_album(6), []
    recipe = short_recipe(attack=make_attack("random", "bomb", CLASSES, "stop", "speedlimit"))
    badnet = trained_detector(recipe, tmp_path, album, said.append)
    baseline = load_detector(tmp_path / "baseline" / "weights.safetensors")
    assert not same_weights(badnet, baseline)
    assert same_weights(badnet, trained_detector(recipe, tmp_path, album))
    assert any("baseline: cut-out signs" in text for text in said)
    assert not (tmp_path / "bomb-random" / "checkpoint.pt").exists()


def test_a_folder_of_another_recipe_is_not_taken_for_this_one(tmp_path):
    album = made_up_album(4)
    trained_detector(short_recipe(), tmp_path, album)
    with pytest.raises(ValueError, match="holds a detector of another recipe"):
        trained_detector(short_recipe(seed=1), tmp_path, album)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="no architecture 'large'; choose one of small, paper"):
        short_recipe(architecture="large")
    assert SMALL.name == "small"
