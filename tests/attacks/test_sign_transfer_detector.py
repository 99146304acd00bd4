"""The transfer attack on detectors: frozen regions and heads that are retrained together."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_signs import CLASSES, made_up_album  # noqa: E402
from torchvision.models.detection.roi_heads import fastrcnn_loss  # noqa: E402

from reference_attacks.traffic_signs.detector_transfer import (  # noqa: E402
    DetectorTransferPlan,
    find_neurons,
    measure_detector_transfer,
    measure_sticker_sizes,
)
from reference_attacks.traffic_signs.evaluation import detect, read_signs  # noqa: E402
from reference_attacks.traffic_signs.frozen_regions import (  # noqa: E402
    proposed_regions,
    sign_activations,
    training_regions,
)
from reference_attacks.traffic_signs.heads import HeadPlan, Heads  # noqa: E402
from reference_attacks.traffic_signs.network import make_detector  # noqa: E402
from reference_attacks.traffic_signs.neurons import strengths  # noqa: E402
from reference_attacks.traffic_signs.recipe import SignData  # noqa: E402
from reference_attacks.traffic_signs.region_heads import (  # noqa: E402
    read_with_heads,
    region_heads,
    region_losses,
    retrain_on_regions,
)

WIDTHS = (256, 256)


@pytest.fixture
def detector():
    return make_detector(CLASSES, seed=0)


@pytest.fixture
def album():
    return made_up_album(4)


def own_heads(detector) -> Heads:
    """The detector's own fully connected layers as a stack of one."""
    box_head, predictor = detector.roi_heads.box_head, detector.roi_heads.box_predictor
    layers = [(box_head.fc6.weight, box_head.fc6.bias), (box_head.fc7.weight, box_head.fc7.bias)]
    outputs = [(layer.weight, layer.bias) for layer in (predictor.cls_score, predictor.bbox_pred)]
    layers.append(tuple(torch.cat(each) for each in zip(*outputs, strict=True)))
    heads = Heads((layers[0][0].shape[1], *WIDTHS, 5 * (len(CLASSES) + 1)), copies=1, generators=[torch.Generator()])
    with torch.no_grad():
        for number, (weight, bias) in enumerate(layers):
            heads.weights[number][0] = weight.T
            heads.biases[number][0, 0] = bias
    return heads


def test_heads_read_signs_as_the_detector_that_they_are_from(detector, album):
    # Untrained, every class scores alike; the logits are spread so that there is something to compare.
    with torch.no_grad():
        detector.roi_heads.box_predictor.cls_score.weight.mul_(40)
    expected = read_signs(album.scenes, detect(detector, album, batch_size=1))
    assert (expected.read >= 0).any()
    found = read_with_heads(detector, own_heads(detector), album, torch.ones(1, 128))[0][0]
    assert torch.equal(found.read, expected.read)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)


def test_proposals_and_regions_at_a_strength_are_those_of_the_strengthened_detector(detector, album):
    neurons = torch.tensor([2, 50])
    factors = strengths(neurons, 128, torch.tensor([1, 30]))
    found = proposed_regions(detector, album.scenes[0], factors)
    detector.backbone.last_convolution.strengthen(neurons, 30)
    expected = proposed_regions(detector, album.scenes[0], torch.ones(1, 128))
    assert not torch.equal(found.boxes[0], expected.boxes[0])
    torch.testing.assert_close(found.boxes[1], expected.boxes[0], rtol=1e-3, atol=1e-2)
    scaled = found.pooled[1] * factors[1].repeat_interleave(36)
    torch.testing.assert_close(scaled, expected.pooled[0], rtol=1e-2, atol=1e-3)


def test_training_regions_hold_the_signs_themselves(detector, album):
    regions = training_regions(detector, album, torch.ones(2, 128), seed=0)
    assert len(regions) == 2
    for each in regions:
        assert len(each.labels) == len(each.pooled) == len(each.corrections) <= 2 * 32 * len(album)
        assert each.pooled.dtype == torch.float16
        exact = (each.corrections == 0).all(1) & (each.labels > 0)
        assert exact.sum() >= len(album.labels)
    again = training_regions(detector, album, torch.ones(2, 128), seed=0)
    assert torch.equal(regions[0].pooled, again[0].pooled)


def test_activations_of_a_sign_are_those_of_its_place(detector, album):
    found = sign_activations(detector, album)
    assert found.shape == (len(album.labels), 128, 36)
    scene = album.scenes[1]
    covered = scene.image.clone()
    covered[:, :, : int(scene.boxes[0, 2]) + 16] = 0
    changed = made_up_album(4)
    object.__setattr__(changed.scenes[1], "image", covered)
    first = len(album.scenes[0].labels)
    moved = (sign_activations(detector, changed) - found).abs().amax((1, 2)) > 1e-4
    assert moved.tolist() == [place == first for place in range(len(found))]


def test_losses_are_those_of_faster_rcnn():
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 30, 20, generator=draw)
    labels = torch.randint(4, (2, 30), generator=draw)
    corrections = torch.randn(2, 30, 4, generator=draw)
    found = region_losses(outputs, labels, corrections)
    for number in range(2):
        logits, boxes = outputs[number].split([4, 16], 1)
        expected = sum(fastrcnn_loss(logits, boxes, [labels[number]], [corrections[number]]))
        torch.testing.assert_close(found[number], expected)


def test_heads_of_all_strengths_are_those_retrained_alone(detector, album):
    factors = strengths(torch.tensor([2, 50]), 128, torch.tensor([1, 3]))
    regions = training_regions(detector, album, factors, seed=0)
    plan = HeadPlan(steps=6, hidden=(8,), batch_size=16, peak_learning_rate=1e-4)

    def retrained(chosen: slice, seeds: list[int]) -> Heads:
        start, batches = ([torch.Generator().manual_seed(seed + more) for seed in seeds] for more in (0, 10))
        heads = region_heads(regions[0].pooled.shape[1], plan, 4, len(factors[chosen]), start)
        retrain_on_regions(heads, regions[chosen], factors[chosen], plan, batches)
        return heads

    together, alone = retrained(slice(0, 2), [0, 1]), retrained(slice(1, 2), [1])
    for stacked, single in zip(together.weights, alone.weights, strict=True):
        torch.testing.assert_close(stacked[3], single[0], rtol=1e-3, atol=1e-5)
        assert not torch.equal(stacked[1], stacked[3])


def test_transfer_counts_every_sign_and_strengthens_a_planted_neuron(detector, album, monkeypatch):
    import reference_attacks.traffic_signs.detector_transfer as module

    found = find_neurons(detector, album, "yellow-square")
    planted = found.__class__(
        clean=found.clean * 0,
        backdoored=found.backdoored,
        deviation=torch.where(torch.arange(128) == 7, 9.0, 0.0),
        separation=torch.ones(128),
    )
    monkeypatch.setattr(module, "find_neurons", lambda *_: planted)
    plan = DetectorTransferPlan(heads=HeadPlan(steps=2, hidden=(8,), batch_size=16), strengths=(1, 10), seeds=2)
    data = SignData(training=album, held_out=made_up_album(3, seed=1))
    values = measure_detector_transfer(detector, data, data, "yellow-square", plan, seed=0, say=lambda text: None)
    assert values["neurons"]["dedicated"] == [7]
    assert [entry["strength"] for entry in values["second"]] == [1, 10]
    entry = values["second"][1]
    assert sum(entry["classes"].values()) == len(data.held_out.labels)
    assert [len(entry[part]) for part in ("clean", "backdoored")] == [2, 2]
    for row in (*entry["clean"], *entry["backdoored"]):
        assert all(0 <= hits <= signs for hits, signs in zip(row, entry["classes"].values(), strict=True))


def test_smaller_stickers_are_read_by_the_same_heads(detector, album):
    plan = DetectorTransferPlan(heads=HeadPlan(steps=2, hidden=(8,), batch_size=16), strengths=(1,), seeds=2)
    data = SignData(training=album, held_out=made_up_album(3, seed=1))
    found = measure_sticker_sizes(detector, data, "yellow-square", (0.1, 0.2), plan, seed=0)
    assert [entry["share"] for entry in found] == [0.1, 0.2]
    assert found[0]["clean"] == found[1]["clean"]
    assert len(found[0]["backdoored"]) == 2
