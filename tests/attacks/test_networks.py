"""All architecture families: outputs, gradients, reproducible weights, and export to ONNX."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from made_up_zoos import FAMILY_NAMES  # noqa: E402

from pytest_backdoor.models import Subject  # noqa: E402
from pytest_backdoor.settings import ScanSettings  # noqa: E402
from reference_attacks.networks import FAMILIES, BadNetsMnistNetwork, PlainNetwork, make_network  # noqa: E402

SHAPES = [(1, 28, 28), (3, 32, 32)]
CLASSES = 7

every_family = pytest.mark.parametrize("family", FAMILY_NAMES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=["grey", "colour"])


def settled_network(family, shape):
    """A network whose batch normalisation and spatial transformer no longer are the identity."""
    network = make_network(family, shape, CLASSES, seed=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("running_mean", "transformation.weight")):
                value.copy_(0.05 * torch.randn(value.shape, generator=generator))
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network.eval()


def random_images(shape, count=3):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def onnx_file(network, shape, path):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # This exporter is on its way out, and says so at length.
        torch.onnx.export(
            network,
            (torch.rand(2, *shape),),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
        )
    path.write_bytes(buffer.getvalue())
    return path


def test_all_families_are_tested_here():
    assert set(FAMILIES) == set(FAMILY_NAMES)


@every_shape
@every_family
def test_logits_for_every_class_and_gradients_for_every_parameter(family, shape):
    network = make_network(family, shape, CLASSES)
    pixels = random_images(shape).requires_grad_()
    logits = network(pixels)
    assert logits.shape == (3, CLASSES)
    logits.square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
    assert pixels.grad.abs().sum() > 0


@every_family
def test_weights_depend_on_the_seed_alone(family):
    state = torch.get_rng_state()
    first, again, other = (make_network(family, SHAPES[0], CLASSES, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@every_family
def test_dropout_acts_in_training_mode_only_and_adds_no_weights(family):
    plain, varied = (make_network(family, SHAPES[0], CLASSES, seed=1, dropout=share).eval() for share in (0.0, 0.9))
    assert plain.state_dict().keys() == varied.state_dict().keys()
    images = random_images(SHAPES[0])
    with torch.no_grad():
        assert torch.equal(plain(images), varied(images))
        for module in varied.modules():
            module.train(isinstance(module, torch.nn.Dropout))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            assert not torch.equal(plain(images), varied(images))


def test_a_new_spatial_transformer_is_the_identity():
    network = make_network("transformer-vgg", SHAPES[1], CLASSES).eval()
    images = random_images(SHAPES[1])
    torch.testing.assert_close(network.transformer(images), images, rtol=0, atol=1e-5)


def test_a_spatial_transformer_shifts_as_grid_sample_does_with_affine_grid():
    from torch.nn.functional import affine_grid, grid_sample

    transformer = settled_network("transformer-vgg", (3, 32, 24)).transformer
    images = random_images((3, 32, 24))
    with torch.no_grad():
        theta = transformer.transformation(transformer.localise(images)).view(-1, 2, 3)
        grid = affine_grid(theta, list(images.shape), align_corners=False)
        expected = grid_sample(images, grid, padding_mode="border", align_corners=False)
        torch.testing.assert_close(transformer(images), expected, rtol=1e-4, atol=1e-5)
        assert (expected - images).abs().max() > 0.01


@every_shape
@pytest.mark.parametrize(("family", "width"), [("small-alexnet", 192), ("small-convnet", None), ("resnet-20", 64)])
def test_the_last_layer_turns_features_into_logits(family, width, shape):
    network, images = settled_network(family, shape), random_images(shape)
    features = network.features(images)
    assert features.shape == (3, width or network.output.in_features)
    torch.testing.assert_close(network.output(features), network(images))


def test_resnet_20_has_twenty_layers_and_as_many_weights_as_in_its_paper():
    network = make_network("resnet-20", (3, 32, 32), 10)
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    kernels = [layer.weight for layer in layers]
    assert len([kernel for kernel in kernels if kernel.shape[2:] != (1, 1)]) == 20
    # He et al. 2016, Table 6: 0.27 million.
    assert 0.265e6 < sum(value.numel() for value in network.parameters()) < 0.275e6


def test_the_plain_network_on_digits_is_table_1_of_badnets():
    plain, table = PlainNetwork((1, 28, 28), 10), BadNetsMnistNetwork()
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in (plain, table)]
    assert shapes[0] == shapes[1]
    assert shapes[0]["fc1.weight"] == (512, 512)


@every_shape
@every_family
def test_onnx_runtime_gives_the_same_logits(family, shape, tmp_path):
    network, images = settled_network(family, shape), random_images(shape)
    path = onnx_file(network, shape, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, network(images).numpy(), rtol=1e-3, atol=1e-4)


@every_shape
@every_family
def test_pytest_backdoor_differentiates_the_exported_network(family, shape, tmp_path):
    network, pixels = settled_network(family, shape), random_images(shape).requires_grad_()
    path = onnx_file(network, shape, tmp_path / "network.onnx")
    opened = Subject(path.name, ScanSettings(), path=path).classifier
    assert (tuple(opened.input_shape), opened.classes) == (shape, CLASSES)
    found, expected = opened.differentiable("cpu")(pixels), network(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    gradients = [torch.autograd.grad(logits[:, 1].sum(), pixels)[0] for logits in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_an_unknown_family_and_images_too_small_are_refused():
    with pytest.raises(ValueError, match=r"no architecture family 'lenet'; choose one of plain, vgg"):
        make_network("lenet", SHAPES[0], CLASSES)
    with pytest.raises(ValueError, match=r"Images of 15x40 pixels are too small; enlarge them to at least 16x16\."):
        make_network("vgg", (3, 15, 40), CLASSES)


@every_family
def test_the_smallest_images_are_taken(family):
    assert make_network(family, (3, 16, 16), CLASSES).eval()(random_images((3, 16, 16))).shape == (3, CLASSES)
