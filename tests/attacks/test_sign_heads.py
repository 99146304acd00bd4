from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from pytest_backdoor.models import Subject, load_samples  # noqa: E402
from pytest_backdoor.settings import ScanSettings  # noqa: E402
from reference_attacks.networks.sign_head import head_of  # noqa: E402
from reference_attacks.traffic_signs.album import Album, Scene  # noqa: E402
from reference_attacks.traffic_signs.crops import CropPlan, write_crops  # noqa: E402
from reference_attacks.traffic_signs.network import PAPER, SignDetector, make_detector  # noqa: E402
from reference_attacks.traffic_signs.onnx_head import head_onnx_bytes  # noqa: E402

CLASSES = ("stop", "speedlimit")


def settled_detector() -> SignDetector:
    """A detector whose batch normalisation is not the identity."""
    detector = make_detector(CLASSES, seed=4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in detector.state_dict().items():
            if name.endswith("running_mean"):
                value.copy_(0.05 * torch.randn(value.shape, generator=generator))
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return detector.eval()


def test_the_family_is_the_exported_head(tmp_path):
    detector = settled_detector()
    crops = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = head_of(detector)(crops), detector.crop_logits(crops)
    assert torch.allclose(found, expected, atol=1e-5)
    path = tmp_path / "head.onnx"
    path.write_bytes(head_onnx_bytes(detector))
    subject = Subject("head.onnx", ScanSettings(), path=path)
    assert subject.detector is None
    assert (subject.classifier.input_shape, subject.classifier.classes) == ((3, 64, 64), 3)
    centred = (expected - expected.mean(1, keepdim=True)).numpy()
    assert np.allclose(subject.classifier.logits(crops.numpy()), centred, atol=1e-4)
    gradients = subject.classifier.differentiable("cpu")
    assert torch.allclose(gradients(crops), expected, atol=1e-4)


def test_another_architecture_is_refused():
    with pytest.raises(RuntimeError):
        head_of(make_detector(CLASSES, seed=0, architecture=PAPER))


def make_album(seed: int, photographs: int = 4) -> Album:
    """Grey photographs with a red sign of the first class and a blue one of the second."""
    generator = torch.Generator().manual_seed(seed)
    scenes = []
    for _ in range(photographs):
        image = torch.randint(90, 140, (3, 120, 160), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[10.0, 20, 40, 50], [100.0, 60, 140, 100]])
        for channel, (left, top, right, bottom) in zip((0, 2), boxes.int().tolist(), strict=True):
            image[:, top:bottom, left:right] = 0
            image[channel, top:bottom, left:right] = 250
        scenes.append(Scene(image=image, boxes=boxes, labels=torch.tensor([0, 1])))
    return Album(classes=CLASSES, scenes=tuple(scenes))


def test_crops_are_a_task_of_the_head(tmp_path):
    counts = write_crops(make_album(0), make_album(1), CropPlan(train=7, test=5), tmp_path)
    assert counts == {"train": 21, "test": 15}
    names = ["0-background", "1-stop", "2-speedlimit"]
    assert sorted(entry.name for entry in (tmp_path / "train").iterdir()) == names
    samples = load_samples(
        "test", root=tmp_path, input_shape=(3, 64, 64), classes=3, class_names=None, limit=100, seed=0
    )
    means = {label: samples.images[samples.labels == label].mean((2, 3)) for label in range(3)}
    assert np.abs(means[0][:, 0] - means[0][:, 2]).max() < 0.3
    assert (means[1][:, 0] > 0.6).all()
    assert (means[2][:, 2] > 0.6).all()
    trained = load_samples(
        "train", root=tmp_path, input_shape=(3, 64, 64), classes=3, class_names=None, limit=100, seed=0
    )
    assert len(np.unique(trained.images.reshape(21, -1), axis=0)) == 21


def test_crops_depend_on_the_seed_alone(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_crops(make_album(0), make_album(1), CropPlan(train=2, test=1, seed=seed), tmp_path / name)
    first, again, other = ((tmp_path / name / "train/1-stop/0000.png").read_bytes() for name in "abc")
    assert first == again != other


def test_a_class_without_signs(tmp_path):
    empty = Album(classes=(*CLASSES, "yield"), scenes=make_album(0).scenes)
    with pytest.raises(ValueError, match="no yield"):
        write_crops(empty, empty, CropPlan(train=1, test=1), tmp_path)
