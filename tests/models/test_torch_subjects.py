from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from onnx_builders import SHAPE, subject  # noqa: E402  (after the skip)
from weight_files import Net, make_net  # noqa: E402

from pytest_backdoor.errors import ModelError  # noqa: E402
from pytest_backdoor.models import Subject, TorchClassifier  # noqa: E402
from pytest_backdoor.settings import make_settings  # noqa: E402

IMAGES = np.random.default_rng(1).random((70, *SHAPE), dtype=np.float32)
FACTORY = "weight_files:make_net"


def logits_of(network, images=IMAGES):
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(images)).numpy()
    return logits - logits.mean(axis=1, keepdims=True)


def classifier(network, **settings):
    return TorchClassifier(network, "net", make_settings({"input_shape": list(SHAPE), **settings}, where="test"))


def live(network, **settings):
    return Subject("net", make_settings({"input_shape": list(SHAPE), **settings}, where="test"), network=network)


def snapshot(network):
    return {
        "modes": [module.training for module in network.modules()],
        "wanted": [weight.requires_grad for weight in network.parameters()],
        "gradients": [weight.grad for weight in network.parameters()],
        "devices": [weight.device for weight in network.parameters()],
        "state": {name: value.clone() for name, value in network.state_dict().items()},
    }


def global_random_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def test_a_live_network_is_left_as_it_was():
    network = make_net().train()
    network.norm.eval()
    network.conv.weight.requires_grad_(False)
    before, randomness = snapshot(network), global_random_states()
    opened = live(network).classifier
    found = opened.logits(IMAGES)
    pixels = torch.from_numpy(IMAGES[:2]).requires_grad_()
    torch.autograd.grad(opened.differentiable("cpu")(pixels)[:, 0].sum(), pixels)
    after = snapshot(network)
    assert global_random_states() == randomness
    for name, value in after["state"].items():
        assert torch.equal(value, before["state"][name])
    for name in ("modes", "wanted", "gradients", "devices"):
        assert after[name] == before[name]
    np.testing.assert_allclose(found, logits_of(network), atol=1e-5)


def test_a_network_that_changes_its_input_leaves_the_images_as_they_were():
    class Shifting(Net):
        def forward(self, images):
            return super().forward(images.sub_(0.5))

    images = IMAGES.copy()
    images.setflags(write=False)
    classifier(Shifting()).logits(images)
    np.testing.assert_array_equal(images, IMAGES)


def test_a_network_that_fails_is_left_as_it_was_too():
    network = make_net().train()
    network.norm.eval()
    before = snapshot(network)["modes"]
    with pytest.raises(ModelError, match="fails on images of shape"):
        classifier(network, input_shape=[1, 6, 5])
    assert snapshot(network)["modes"] == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_network_on_another_device_stays_there():
    network = make_net().cuda()
    found = live(network, device="cpu").classifier.logits(IMAGES)
    assert next(network.parameters()).is_cuda
    np.testing.assert_allclose(found, logits_of(network.cpu()), atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a device that is not there")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ModelError, match=r"^net cannot be moved to cuda: .* Choose another --backdoor-device\.$"):
        classifier(make_net(), device="cuda")


class Wrapped(torch.nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net = make_net()
        self.change = change

    def forward(self, images):
        return self.change(self.net(images))


@pytest.mark.parametrize(
    "change",
    [
        lambda scores: scores,
        lambda scores: scores.softmax(1),
        lambda scores: scores.log_softmax(1),
        lambda scores: scores[:, :, None, None],
        lambda scores: scores.double(),
    ],
)
def test_every_form_of_output_gives_the_same_logits_and_gradients(change):
    expected = logits_of(make_net())
    opened = classifier(Wrapped(change))
    np.testing.assert_allclose(opened.logits(IMAGES), expected, atol=1e-5)
    pixels = torch.from_numpy(IMAGES).requires_grad_()
    logits = opened.differentiable("cpu")(pixels)
    assert logits.shape == (70, 4)
    np.testing.assert_allclose(
        (logits - logits.mean(1, keepdim=True)).detach().numpy(), expected, atol=1e-5
    )  # gradients of cross-entropy are those of logits, not of probabilities taken for logits
    (gradient,) = torch.autograd.grad(logits.log_softmax(1)[:, 1].sum(), pixels)
    plain = torch.from_numpy(IMAGES).requires_grad_()
    (wanted,) = torch.autograd.grad(make_net().eval()(plain).log_softmax(1)[:, 1].sum(), plain)
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_images_take_the_type_of_the_weights(dtype):
    found = classifier(make_net().to(dtype)).logits(IMAGES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logits_of(make_net()), atol=1e-5 if dtype == torch.float64 else 0.05)


def test_layout_range_and_normalisation_are_those_of_the_settings():
    class Last(torch.nn.Module):
        def forward(self, images):
            return images.mean((1, 2))

    settings = {"layout": "NHWC", "input_range": [0, 255], "mean": [100, 50, 0], "std": [2, 1, 4]}
    found = classifier(Last(), **settings).logits(IMAGES)
    means = (IMAGES.mean((2, 3)) * 255 - [100, 50, 0]) / [2, 1, 4]
    np.testing.assert_allclose(found, means - means.mean(1, keepdims=True), atol=1e-3)


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        (lambda scores: scores[:, :1], {}, "does not give one score for each of two or more classes"),
        (lambda scores: scores.sum(1), {}, "does not give one score for each of two or more classes"),
        (lambda scores: {"logits": scores}, {}, "does not give one score for each of two or more classes"),
        (lambda scores: scores[:1], {}, "does not give one score for each of two or more classes"),
        (lambda scores: scores / 0, {}, "not finite numbers"),
        (lambda scores: scores, {"classes": ["a", "b", "c"]}, "has 4 outputs, but the classes setting names 3"),
        (lambda scores: scores, {"mean": [1, 2]}, "mean lists 2 numbers; give one number or 3"),
    ],
)
def test_networks_that_are_no_classifiers_of_these_images(change, settings, reason):
    with pytest.raises(ModelError, match=rf"^net .*{reason}"):
        classifier(Wrapped(change), **settings)


def save_safetensors(state, path):
    from safetensors.torch import save_file

    save_file(state, str(path))


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("net.pt", lambda state, path: torch.save(state, path)),
        ("net.pth", lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path)),
        ("net.pth", lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False)),
        ("net.safetensors", save_safetensors),
        ("net.pt", save_safetensors),
    ],
)
def test_weight_files_give_what_the_network_gives(tmp_path, name, save):
    network = make_net()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.5)
    save(network.state_dict(), tmp_path / name)
    opened = subject(tmp_path / name, factory=FACTORY, input_shape=list(SHAPE))
    np.testing.assert_allclose(opened.classifier.logits(IMAGES), logits_of(network), atol=1e-5)
    assert opened.describe()["task"] == {"input_shape": list(SHAPE), "classes": 4}


def test_a_live_network_has_no_file_to_describe():
    network = live(Net())
    assert network.classifier.classes == 4
    described = network.describe()
    assert described.pop("preprocessing")["origin"] == "assumed"
    assert described == {
        "sha256": None,
        "size": None,
        "format": "module",
        "task": {"input_shape": list(SHAPE), "classes": 4},
    }
