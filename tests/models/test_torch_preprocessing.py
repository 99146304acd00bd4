from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ramps import CLASSES, SIZE, prepared, ramp_images, ramp_weights  # noqa: E402  (after the skip)

from pytest_backdoor import scan  # noqa: E402
from pytest_backdoor.models import Subject  # noqa: E402
from pytest_backdoor.settings import make_settings  # noqa: E402

FACTORY = f"""
import torch
def make(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear({3 * SIZE * SIZE}, {CLASSES}))
"""
WANTED = prepared(low=-1.0, channel_order="BGR")


@pytest.fixture
def network(tmp_path):
    """A network that wants BGR images in [-1, 1], beside labelled samples."""
    images, labels = ramp_images(3)
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    matrix, bias = ramp_weights(WANTED, 3)
    made = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(*matrix.shape))
    with torch.no_grad():
        made[1].weight.copy_(torch.from_numpy(matrix.T))
        made[1].bias.copy_(torch.from_numpy(bias))
    return made


def check(found):
    assert (found["origin"], found["channel_order"], found["input_range"]) == ("inferred", "BGR", [-1, 1])
    assert found["accuracy"] > 0.95


def test_a_live_network(network, tmp_path):
    (report,) = scan(network, root=tmp_path, data="data.npz", checks=["litmus"]).models
    check(report.preprocessing)


def test_a_state_dict_in_a_process_of_its_own(network, tmp_path):
    (tmp_path / "guarded_networks.py").write_text(FACTORY)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    settings = {"factory": "guarded_networks:make", "input_shape": [3, SIZE, SIZE], "data": "data.npz"}
    (report,) = scan(tmp_path / "net.pt", root=tmp_path, checks=["litmus"], **settings).models
    check(report.preprocessing)
    (wrong,) = scan(tmp_path / "net.pt", root=tmp_path, checks=["litmus"], input_range=[0, 1], **settings).models
    assert wrong.preprocessing is None
    assert 'channel_order = "BGR" it classifies' in wrong.findings[0].remedy


def test_gradients_are_those_of_the_found_preprocessing(network, tmp_path):
    settings = make_settings({"data": "data.npz", "input_shape": [3, SIZE, SIZE]}, where="test")
    subject = Subject("net", settings, network=network, root=tmp_path)
    images, labels = ramp_images(3)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2) / 255).float()
    logits = subject.classifier.differentiable("cpu")(pixels)
    assert (logits.argmax(1).numpy() == labels).mean() > 0.95
    centred = (logits - logits.mean(1, keepdim=True)).detach().numpy()
    np.testing.assert_allclose(subject.classifier.logits(pixels.numpy()), centred, atol=1e-4)
