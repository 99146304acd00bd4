"""First layers that are computed of images and triggers apart give what they give of images with triggers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  (after the skip)
from torch.nn import functional  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from pytest_backdoor.checks.reversal import _search  # noqa: E402
from pytest_backdoor.checks.reversal._channels_last import channels_last  # noqa: E402
from pytest_backdoor.checks.reversal._families import make_family  # noqa: E402
from pytest_backdoor.checks.reversal._images import ReversalImages  # noqa: E402
from pytest_backdoor.checks.reversal._sums import LinearInParts, Sum  # noqa: E402
from pytest_backdoor.checks.reversal._ways import Way, fitting_way, logits_of  # noqa: E402
from pytest_backdoor.models._preprocessing import make_preprocessing  # noqa: E402
from pytest_backdoor.settings import ScanSettings  # noqa: E402

ARMS, IMAGES, SIDE, CLASSES = 3, 4, 9, 5
FORMATS = {"contiguous": torch.Tensor.contiguous, "channels last": channels_last}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Layers(TorchFunctionMode):
    """Notes on how many samples each linear layer is called."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.conv2d, functional.linear, torch.Tensor.matmul):
            self.batches.append(len(args[0]))
        return func(*args, **(kwargs or {}))


class Applied(nn.Module):
    """A function as a network, with parameters of ``modules``."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, images):
        return self.function(self, images)


def convolution(channels=3, **settings):
    return nn.Conv2d(channels, 6, **{"kernel_size": 3, **settings})


def after(*first, channels=6):
    """A network with these first modules, then something that is not linear."""
    return nn.Sequential(*first, nn.ReLU(), nn.Conv2d(channels, 4, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES))


def head(first):
    return after(first) if isinstance(first, nn.Module) else after(Applied(first, conv=convolution()))


def normalised(self, x):
    mean = torch.tensor([0.3, 0.4, 0.5], dtype=x.dtype)[:, None, None]
    return self.conv(x.clone().sub_(mean).div_(torch.tensor(0.2)))


def shown_then_changed(self, x):
    made = self.conv(x)
    made.mul_(2)
    return made + self.conv(x)


# What is taken apart: the first linear layer is called on ARMS and on IMAGES samples.
APART = {
    "bias": convolution(),
    "no bias": convolution(bias=False),
    "groups": convolution(groups=3),
    "stride": convolution(stride=2),
    "dilation": convolution(dilation=2),
    "padded": convolution(padding=1),
    "same": convolution(padding="same"),
    "reflected": convolution(padding=1, padding_mode="reflect"),
    "circular": convolution(padding=1, padding_mode="circular"),
    "replicated": convolution(padding=1, padding_mode="replicate"),
    "zeros around": nn.Sequential(nn.ZeroPad2d(2), convolution()),
    "ones around": nn.Sequential(nn.ConstantPad2d(1, 1.0), convolution()),
    "normalised batch": nn.Sequential(nn.BatchNorm2d(3), convolution()),
    "average": nn.Sequential(nn.AvgPool2d(2, padding=1), convolution()),
    "resized": nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), convolution()),
    "asserting": lambda self, x: self.conv(x) if x.dim() == 4 and len(x) == x.shape[0] == x.size(0) else None,
    "type": lambda self, x: self.conv(x) if isinstance(x, torch.Tensor) and not torch.isnan(x).any() else None,
    "normalised in place": normalised,
    "shifted": lambda self, x: self.conv((2 * x - 1 + torch.ones(1, 3, 1, 1, dtype=x.dtype)) / 3),
    "from one": lambda self, x: self.conv(1 - x),
    "constant less": lambda self, x: self.conv(torch.full((3, 1, 1), 0.3, dtype=x.dtype) - x),
    "less": lambda self, x: self.conv(-x + 0.25 * x.flip(-1).new_ones(())),
    "channels swapped": lambda self, x: self.conv(x[:, [2, 1, 0]]),
    "channels turned": lambda self, x: self.conv(x.flip(1)),
    "cropped": lambda self, x: self.conv(x[:, :, 1:, 2:-1]),
    "there and back": lambda self, x: self.conv(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
    "twice": lambda self, x: self.conv(x) * self.conv(x).sigmoid(),
    "changed after": shown_then_changed,
    "clamped beside": lambda self, x: self.conv(x).relu() + self.conv(x.clamp(0.2, 0.8)),
    "without gradient": lambda self, x: self.conv(x) + torch.no_grad()(self.conv)(x),
    "samples by name": lambda self, x: functional.conv2d(x, weight=self.conv.weight, bias=self.conv.bias),
}


def reversed_batch(self, x):
    return self.conv(x.flip(0)).flip(0)


def through_data(self, x):
    made = x * 1
    made.data.mul_(0.5)
    return self.conv(made)


def in_place(self, x):
    made = x.clone()
    made[:, 0] = 0.5
    return self.conv(made)


def in_place_of_a_view(self, x):
    made = x * 1
    made[:, 1].mul_(3)
    return self.conv(made)


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient / 2


# What is not: it is computed as ever.
WHOLE = {
    "relu in place": nn.Sequential(nn.ReLU(inplace=True), convolution()),
    "clamped": lambda self, x: self.conv(x.clamp(0.1, 0.7)),
    "squared": lambda self, x: self.conv(x * x),
    "inverted": lambda self, x: self.conv(1 / (x + 1)),
    "by the batch": lambda self, x: self.conv(x - x.mean((2, 3), keepdim=True)),
    "own factors": lambda self, x: self.conv(x * torch.arange(1, len(x) + 1).to(x)[:, None, None, None]),
    "turned batch": reversed_batch,
    "through data": through_data,
    "assigned": in_place,
    "a view changed": in_place_of_a_view,
    "own gradient": lambda self, x: self.conv(Halved.apply(x)),
    "transposed batch": lambda self, x: self.conv(x.transpose(0, 1).clone().transpose(0, 1)),
    "mapped": lambda self, x: torch.func.vmap(lambda one: self.conv(one[None])[0])(x),
    "half": lambda self, x: self.conv(x.bfloat16().to(x.dtype)),
    "instances": nn.Sequential(nn.InstanceNorm2d(3), convolution()),
    "dropped": nn.Sequential(nn.Dropout(0.0), convolution()),
}


def built(first, dtype=torch.float64, layout="NCHW"):
    network = head(first).to(dtype).eval()
    images = torch.rand(2, 3, SIDE, SIDE, dtype=dtype)
    network(images if layout == "NCHW" else images.permute(0, 2, 3, 1))  # for the size of the last layer
    generator = seeded()
    with torch.no_grad():
        for weights in network.parameters():
            weights.normal_(0, 0.3, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return network


def parts_of(dtype, memory_format):
    images = FORMATS[memory_format](torch.rand(IMAGES, 3, SIDE, SIDE, generator=seeded(1)).to(dtype))
    arms = FORMATS[memory_format](torch.rand(ARMS, 3, SIDE, SIDE, generator=seeded(2)).to(dtype))
    return Sum(images=images, arms=arms.requires_grad_())


def run(network, parts, *, apart):
    """Logits, the gradient of a mixture of them, and on how many samples layers were called."""
    batch = parts.batch().flatten(0, 1)
    with Layers() as layers:
        if apart:
            with LinearInParts(batch, parts):
                logits = network(batch)
        else:
            logits = network(batch)
    mixture = torch.rand(logits.shape, generator=seeded(3)).to(logits.dtype)
    (gradient,) = torch.autograd.grad((logits.log_softmax(-1) * mixture).sum(), [parts.arms])
    return logits.detach(), gradient, layers.batches


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", [*APART, *WHOLE])
def test_parts_give_the_logits_and_gradients_of_the_whole(name, dtype, memory_format):
    network = built({**APART, **WHOLE}[name], dtype)
    parts = parts_of(dtype, memory_format)
    expected = run(network, parts, apart=False)
    found = run(network, parts, apart=True)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(found[0], expected[0], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found[1], expected[1], atol=tolerance, rtol=10 * tolerance)
    assert expected[1].abs().max() > 1e-4
    assert not {ARMS, IMAGES} & set(expected[2])
    assert ({ARMS, IMAGES} <= set(found[2])) == (name in APART)


def flat(self, x):
    return self.first(x.contiguous().view(x.size(0), -1)).relu()


def all_but_batch(self, x):
    return self.first(x.flatten(1)).relu()


def product(self, x):
    return (x.reshape(-1, 3 * SIDE * SIDE) @ self.first.weight.T + self.first.bias).relu()


@pytest.mark.parametrize("function", [flat, all_but_batch, product])
def test_fully_connected_first_layers_are_computed_in_parts(function):
    network = Applied(function, first=nn.Linear(3 * SIDE * SIDE, CLASSES)).double()
    parts = parts_of(torch.float64, "contiguous")
    expected, found = run(network, parts, apart=False), run(network, parts, apart=True)
    torch.testing.assert_close(found[:2], expected[:2], atol=1e-10, rtol=1e-10)
    assert found[2] == [IMAGES, ARMS]


def test_a_reshaping_that_mixes_samples_is_left_alone():
    network = built(lambda self, x: self.conv(x.reshape(3, -1, SIDE, SIDE).transpose(0, 1).reshape(x.shape)))
    parts = parts_of(torch.float64, "contiguous")
    expected, found = run(network, parts, apart=False), run(network, parts, apart=True)
    torch.testing.assert_close(found[:2], expected[:2], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("channels_last_input", [True, False])
@pytest.mark.parametrize("settings", [{}, {"input_range": (0.0, 255.0)}, {"mean": (0.3, 0.4, 0.5), "std": (0.2,)}])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_preprocessing_is_taken_apart(layout, settings, channels_last_input):
    preprocessing = make_preprocessing(
        ScanSettings(channel_order="BGR", **settings), layout=layout, channels=3, dtype="float32", path="x"
    )
    first = (lambda self, x: self.conv(x.permute(0, 3, 1, 2))) if layout == "NHWC" else convolution()
    network = built(first, layout=layout)

    def forward(images):
        return network(preprocessing.for_torch(images))

    parts = parts_of(torch.float64, "channels last" if channels_last_input else "contiguous")
    expected, found = run(forward, parts, apart=False), run(forward, parts, apart=True)
    torch.testing.assert_close(found[:2], expected[:2], atol=1e-9, rtol=1e-9)
    assert {ARMS, IMAGES} <= set(found[2])


def graph(batch, channels_last_input):
    """An ONNX model: normalisation, a convolution with uneven pads, and a fully connected layer after a reshaping."""
    onnx = pytest.importorskip("onnx")
    node, number = onnx.helper.make_node, torch.Generator().manual_seed(0)

    def constant(name, *shape):
        values = torch.randn(shape, generator=number) * 0.3 + (1 if name == "std" else 0)
        return onnx.numpy_helper.from_array(values.numpy(), name)

    shape = [batch, SIDE, SIDE, 3] if channels_last_input else [batch, 3, SIDE, SIDE]
    nodes = [
        node("Transpose", ["input"], ["turned"], perm=[0, 3, 1, 2] if channels_last_input else [0, 1, 2, 3]),
        node("Sub", ["turned", "mean"], ["centred"]),
        node("Div", ["centred", "std"], ["scaled"]),
        node("Conv", ["scaled", "weight", "bias"], ["convolved"], pads=[0, 1, 2, 1], strides=[2, 2]),
        node("Relu", ["convolved"], ["active"]),
        node("GlobalAveragePool", ["active"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "last"], ["output"]),
    ]
    made = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [batch, CLASSES])],
        [
            constant("mean", 1, 3, 1, 1),
            constant("std", 3, 1, 1),
            constant("weight", 6, 3, 3, 3),
            constant("bias", 6),
            constant("last", 6, CLASSES),
        ],
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_programs_of_graphs_are_taken_apart(layout, batch):
    from pytest_backdoor.models.graph import torch_program

    program = torch_program(graph(batch, layout == "NHWC"))
    preprocessing = make_preprocessing(
        ScanSettings(mean=(0.1,), std=(0.5,)), layout=layout, channels=3, dtype="float32", path="x"
    )

    def forward(images):
        return program(preprocessing.for_torch(images))

    parts = parts_of(torch.float32, "channels last")
    expected = run(forward, parts, apart=False)  # where the batch is fixed, the first run compares ways of its own
    found = run(forward, parts, apart=True)
    torch.testing.assert_close(found[:2], expected[:2], atol=2e-5, rtol=2e-4)
    assert expected[1].abs().max() > 1e-4
    assert {ARMS, IMAGES} <= set(found[2])


# The way that is chosen


def searched(network, name="patch"):
    family = make_family(name, (3, SIDE, SIDE))
    images = torch.rand(IMAGES, 3, SIDE, SIDE, generator=seeded(1))
    start = family.start(ARMS, seeded(2))
    way = fitting_way(network, images, family, start)
    return way, logits_of(network, images, start, family, 0, way).detach(), family.apply(images, start, 0)


@pytest.mark.parametrize("name", ["patch", "source-patch", "blend"])
def test_sums_are_searched_in_parts(name):
    network = built(convolution(), torch.float32)
    way, found, triggered = searched(network, name)
    assert way == Way(in_parts=True)
    torch.testing.assert_close(found.flatten(0, 1), network(triggered.flatten(0, 1)).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["pixels", "wave", "warp"])
def test_other_families_are_searched_whole(name):
    assert searched(built(convolution(), torch.float32), name)[0] == Way()


def viewing(self, x):
    made = self.conv(x).relu()
    return self.last(made.view(-1, made[0].numel()))


def test_a_network_that_calls_view_is_searched():
    network = Applied(viewing, conv=convolution(), last=nn.Linear(6 * 49, CLASSES))
    way, found, triggered = searched(network)
    assert way == Way(channels_last=False, in_parts=True)
    torch.testing.assert_close(found.flatten(0, 1), network(triggered.flatten(0, 1)).detach(), atol=1e-5, rtol=1e-4)


def own_gradient(self, x):
    x = x if x.requires_grad else x.requires_grad_()
    made = self.conv(x)
    (slope,) = torch.autograd.grad(made.square().sum(), x, create_graph=True)
    return made + slope.mean((1, 2, 3))[:, None, None, None]


def recomputed(self, x):
    return checkpoint(lambda y: self.conv(y).relu() * 2, x, use_reentrant=False)


@pytest.mark.parametrize("first", [own_gradient, recomputed])
def test_networks_that_look_at_their_own_gradient_are_searched_whole(first):
    network = built(first, torch.float32)
    way, found, triggered = searched(network)
    assert way == Way()
    torch.testing.assert_close(found.flatten(0, 1), network(triggered.flatten(0, 1)).detach(), atol=1e-4, rtol=1e-3)


def test_parts_that_do_not_agree_are_not_used(monkeypatch):
    from pytest_backdoor.checks.reversal import _sums

    monkeypatch.setattr(_sums.Sum, "flat", lambda self: self.batch().flatten(0, 1) * 1.1)
    assert searched(built(convolution(), torch.float32))[0] == Way()


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_compiled_networks_are_searched():
    network = torch.compile(built(convolution(), torch.float32), backend="eager")
    _, found, triggered = searched(network)
    torch.testing.assert_close(found.flatten(0, 1), network(triggered.flatten(0, 1)).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_traced_networks_are_searched():
    network = torch.jit.trace(built(convolution(), torch.float32), torch.rand(2, 3, SIDE, SIDE))
    _, found, triggered = searched(network)
    torch.testing.assert_close(found.flatten(0, 1), network(triggered.flatten(0, 1)).detach(), atol=1e-5, rtol=1e-4)


def test_a_network_that_fails_raises_its_own_error():
    def failing(images):
        raise ZeroDivisionError("of the network")

    with pytest.raises(ZeroDivisionError, match="of the network"):
        searched(failing)


def test_a_network_that_is_not_a_number_is_left_to_the_search():
    assert not searched(lambda images: images.flatten(1)[:, :CLASSES] * float("nan"))[0].in_parts


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_lie_last_up_to_the_pooling(channels):
    family = make_family("wave", (channels, SIDE, SIDE))
    seen = []

    def forward(images):
        made = torch.conv2d(images.contiguous(), torch.ones(4, channels, 2, 2))
        seen.append(made.stride(1))
        return made.flatten(1)

    images = torch.rand(2, channels, SIDE, SIDE)
    logits_of(forward, images, family.start(2, seeded()), family, 0, Way())
    assert seen == [1]
    torch.testing.assert_close(channels_last(images), images, atol=0, rtol=0)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_search_in_parts_finds_what_a_search_of_the_whole_finds(workers, monkeypatch):
    network = built(convolution(), torch.float32)
    images = torch.rand(8, 3, SIDE, SIDE, generator=seeded(1))
    labels = torch.arange(8) % CLASSES
    shown = ReversalImages(images=images, labels=labels, held_out=images, held_out_labels=labels, source="samples")
    family = make_family("patch", (3, SIDE, SIDE))

    def margins():
        return _search.search(network, shown, torch.arange(CLASSES), family, seeded(), workers=workers).margins

    found = margins()
    assert torch.equal(found, margins())
    monkeypatch.setattr(_search, "fitting_way", lambda *_: Way(channels_last=False))
    torch.testing.assert_close(found, margins(), atol=1e-4, rtol=1e-4)
    assert found.std() > 1e-3
