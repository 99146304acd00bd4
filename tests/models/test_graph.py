"""The differentiable form of ONNX graphs against ONNX's own node tests, ONNX Runtime and PyTorch."""

from __future__ import annotations

import fnmatch
import io
import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  (after the skip)

from pytest_backdoor.errors import NotAssessableError  # noqa: E402
from pytest_backdoor.models.graph import _program, run_graph, torch_program  # noqa: E402
from pytest_backdoor.models.graph._batching import FixedBatch  # noqa: E402
from pytest_backdoor.models.graph._registry import OPERATORS  # noqa: E402

# ------------------------------------------------------------------------------------------------ ONNX's node tests

REFUSED = {
    "test_attention_*_with_past_and_present*": "cached keys belong to text generation",
    "test_attention_*qk_matmul*": "the second output shows the scores, no classifier uses it",
    "test_attention_*nonpad*": "padded keys belong to text generation",
    "test_attention_*padded_kv*": "padded keys belong to text generation",
    "test_attention_*local_window": "a local window belongs to long texts",
    "test_attention_local_window_[!d]*": "a local window belongs to long texts",
    "test_attention_bidirectional_window": "a local window belongs to long texts",
    "test_*cast*FLOAT8*": "float8 is for training and language models",
    "test_*cast*FLOAT4*": "float4 is for training and language models",
    "test_*cast*INT4*": "4-bit weights are for language models",
    "test_*cast*INT2*": "2-bit weights are for language models",
    "test_*quantizelinear_e?m*": "float8 is for training and language models",
    "test_*quantizelinear_float4*": "float4 is for training and language models",
    "test_*quantizelinear_*int4": "4-bit weights are for language models",
    "test_*quantizelinear_*int2": "2-bit weights are for language models",
    "test_*quantizelinear_blocked*": "scales per block are for language models",
    "test_batchnorm_*_training_mode": "models are audited as they infer",
    "test_scatternd_m*": "products and extremes in place are not implemented",
    "test_training_dropout*": "models are audited as they infer",
    "test_equal_string*": "no text in an image classifier",
    "test_gathernd_example_int32_batch_dim1": "batch dimensions of GatherND are not implemented",
    "test_identity_opt": "an optional is no image",
    "test_identity_sequence": "a sequence is no image",
    "test_maxpool_with_argmax_2d_precomputed_*": "the indices serve MaxUnpool, which decoders use",
    "test_mvn": "statistics over the batch would make one image's class depend on the others",
    "test_not_?d": "stated for opset 1, before the oldest one supported",
    "test_reduce_m??_empty_set*": "an extreme of no numbers has no torch form",
    "test_roialign_mode_max": "detectors average",
    "test_resize_tf_crop_and_resize*": "cropping by a region of interest is for detectors",
}
"""Name patterns of node tests that are refused on purpose, each with its reason."""

DIFFERENT = {
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime's rounded length is followed",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime's rounded length is followed",
}
"""Node tests whose expected output is not what ONNX Runtime computes; there ONNX Runtime is followed."""


def _group(case):
    names = {node.op_type for node in case.model.graph.node}
    return next(iter(names)) if len(names) == 1 else "several"


@pytest.fixture(scope="module")
def node_cases():
    """ONNX's node tests for the supported operators, by operator."""
    with warnings.catch_warnings():
        # Making the tests computes overflows and logarithms of zero on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    groups = {}
    for case in cases:
        nodes = case.model.graph.node
        if all(node.op_type in OPERATORS and not node.domain for node in nodes):
            groups.setdefault(_group(case), []).append(case)
    return groups


def _array(value):
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _check_case(case):
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        results = run_graph(case.model, dict(zip(names, map(_array, inputs), strict=True)))
        for result, expected in zip(results.values(), map(_array, outputs), strict=True):
            half = expected.dtype.itemsize == 2 and expected.dtype.kind not in "iub"
            tolerance = {"rtol": 1e-2, "atol": 1e-2} if half else {"rtol": max(case.rtol, 1e-4), "atol": 1e-6}
            assert tuple(result.shape) == expected.shape
            np.testing.assert_allclose(result.double().numpy(), expected.astype(np.float64), **tolerance)


def _is_refused(case):
    expanded = "_expanded" in case.name and not case.name.startswith("test_castlike")
    return not expanded and any(fnmatch.fnmatchcase(case.name, pattern) for pattern in REFUSED)


def _raises_not_assessable(case):
    try:
        _check_case(case)
    except NotAssessableError:
        return True
    return False


@pytest.mark.parametrize("name", [*sorted(OPERATORS), "several"])
def test_node_tests_of_operator(name, node_cases):
    failures = {}
    for case in node_cases.get(name, []):
        if case.name in DIFFERENT:
            continue
        if _is_refused(case):
            if not _raises_not_assessable(case):
                failures[case.name] = "listed as refused, but it is computed"
            continue
        try:
            _check_case(case)
        except Exception as error:
            failures[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    assert not failures


def test_most_node_tests_are_in_scope(node_cases):
    cases = [case for group in node_cases.values() for case in group]
    refused = sum(_is_refused(case) or case.name in DIFFERENT for case in cases)
    assert len(cases) - refused > 1000


# ----------------------------------------------------------------------- exported networks, ONNX Runtime and PyTorch


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        images = self.pool(self.stem(images))
        images = torch.relu(images + self.body(images))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(images, 1), 1))


class Mobile(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.BatchNorm2d(12), nn.SiLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU6(), nn.Conv2d(4, 12, 1))
        self.head = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12 * 16, 5))

    def forward(self, images):
        images = self.depthwise(self.expand(images))
        return self.head(images * torch.nn.functional.hardsigmoid(self.squeeze(images)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 17, 16))
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.LayerNorm(16)])
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mixer = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], 1) + self.positions
        normal = self.norms[0](tokens)
        tokens = tokens + self.attention(normal, normal, normal, need_weights=False)[0]
        return self.head((tokens + self.mixer(self.norms[1](tokens)))[:, 0])


class Windows(nn.Module):
    """Self-attention within windows, with the batch folded into them as Swin transformers do."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, 2)
        self.mix = nn.Linear(8, 24)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        tokens = self.embed(images).permute(0, 2, 3, 1)
        batch, height, width, channels = tokens.shape
        parts = tokens.view(batch, height // 4, 4, width // 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
        query, key, value = self.mix(parts.reshape(-1, 16, channels)).chunk(3, -1)
        mixed = torch.softmax(query @ key.transpose(1, 2), -1) @ value
        mixed = mixed.view(batch, height // 4, width // 4, 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
        return self.head(mixed.reshape(batch, height, width, channels).mean((1, 2)))


def _lenet():
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


NETWORKS = {"lenet": _lenet, "residual": Residual, "mobile": Mobile, "attention": Attention, "windows": Windows}


@dataclass(frozen=True)
class Exported:
    network: nn.Module
    model: onnx.ModelProto


def _network(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def _export(network, *, dynamo, batch=1, **options):
    with_softmax = nn.Sequential(network, nn.Softmax(-1)).eval()
    example = (torch.rand(batch, 3, 16, 16),)
    with warnings.catch_warnings():
        # Both exporters warn about their own age and inner workings.
        warnings.simplefilter("ignore")
        if dynamo:
            return torch.onnx.export(with_softmax, example, dynamo=True, verbose=False, **options).model_proto
        buffer = io.BytesIO()
        torch.onnx.export(with_softmax, example, buffer, dynamo=False, **options)
    return onnx.load_from_string(buffer.getvalue())


@pytest.fixture(
    scope="module",
    params=[f"{name}-{exporter}" for name in NETWORKS for exporter in ("torchscript", "dynamo")],
)
def exported(request):
    name, exporter = request.param.split("-")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript")
    network = _network(name)
    return Exported(network, _export(network, dynamo=exporter == "dynamo"))


def _runtime_outputs(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None].numpy()})[0] for image in images])


def _assert_same_as(network, program, images):
    given, direct = images.clone().requires_grad_(), images.clone().requires_grad_()
    logits, expected = program(given), network(direct)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(given.grad, direct.grad, rtol=1e-3, atol=1e-4)


def test_exported_network_gives_onnx_runtimes_outputs(exported):
    images = torch.rand(3, 3, 16, 16)
    probabilities = torch_program(exported.model)(images).softmax(-1)
    np.testing.assert_allclose(probabilities.detach(), _runtime_outputs(exported.model, images), rtol=1e-3, atol=1e-5)
    kept = torch_program(exported.model, strip_softmax=False)(images)
    torch.testing.assert_close(kept, probabilities, rtol=1e-3, atol=1e-5)


def test_exported_network_has_the_modules_logits_and_input_gradients(exported):
    _assert_same_as(exported.network, torch_program(exported.model), torch.rand(3, 3, 16, 16))


def test_exported_network_runs_three_samples_in_one_pass(exported, monkeypatch):
    program = torch_program(exported.model)
    program(torch.rand(3, 3, 16, 16))

    def refuse(*_):
        raise AssertionError("ran batch by batch")

    monkeypatch.setattr(FixedBatch, "_run_in_parts", refuse)
    assert program(torch.rand(4, 3, 16, 16)).shape == (4, 5)


@pytest.mark.parametrize("name", ["attention", "windows"])
def test_a_fixed_batch_of_two_takes_five_samples(name):
    network = _network(name)
    _assert_same_as(network, torch_program(_export(network, dynamo=False, batch=2)), torch.rand(5, 3, 16, 16))


@pytest.mark.parametrize("name", ["attention", "windows"])
def test_shapes_computed_in_the_graph_follow_the_batch(name):
    network = _network(name)
    options = {"input_names": ["images"], "dynamic_axes": {"images": {0: "batch"}}}
    model = _export(network, dynamo=False, batch=2, **options)
    assert any(node.op_type == "Shape" for node in model.graph.node)
    _assert_same_as(network, torch_program(model), torch.rand(3, 3, 16, 16))


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_older_opsets(opset):
    network = _network("mobile" if opset > 13 else "residual" if opset > 9 else "lenet")
    model = _export(network, dynamo=False, opset_version=opset)
    _assert_same_as(network, torch_program(model), torch.rand(2, 3, 16, 16))


# ---------------------------------------------------------------------------------------------------- graphs by hand


def _model(nodes, *, shape=("N", 3, 4, 4), kind=TensorProto.FLOAT, constants=None, opset=17, outputs=("y",), **more):
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializers,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=imports, **more)


def _one(operator, inputs=("x",), **attributes):
    return helper.make_node(operator, list(inputs), ["y"], name="here", **attributes)


def test_an_integer_input_takes_floats_with_gradients():
    nodes = [
        helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "range"], ["y"]),
    ]
    program = torch_program(_model(nodes, kind=TensorProto.UINT8, constants={"range": np.float32(255)}))
    images = torch.full((2, 3, 4, 4), 100.5, requires_grad=True)
    program(images).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 1 / 255))


def test_a_cast_to_integers_and_back_rounds_but_passes_the_gradient():
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Cast", ["whole"], ["y"], to=TensorProto.FLOAT),
    ]
    images = torch.full((1, 3, 4, 4), 2.7, requires_grad=True)
    result = torch_program(_model(nodes))(images)
    assert (result == 2).all()
    result.sum().backward()
    assert (images.grad == 1).all()


def test_quantisation_rounds_but_passes_the_gradient_within_its_range():
    constants = {"scale": np.float32(0.5), "zero": np.uint8(10)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    images = torch.tensor([[0.3, 1000.0]], requires_grad=True)
    result = torch_program(_model(nodes, shape=("N", 2), constants=constants))(images)
    assert result.tolist() == [[0.5, 122.5]]
    result.sum().backward()
    assert images.grad.tolist() == [[1.0, 0.0]]


def test_half_precision_is_computed_in_single():
    weights = np.ones((48, 2), np.float16) / 3
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    program = torch_program(_model(nodes, kind=TensorProto.FLOAT16, constants={"w": weights}))
    result = program(torch.ones(2, 3, 4, 4, dtype=torch.float16))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result, np.float32(weights.astype(np.float32).sum(0))[None].repeat(2, 0), rtol=1e-5)


def test_softmax_before_opset_13_normalises_all_axes_from_the_given_one():
    images = torch.rand(2, 3, 4, 4)
    model = _model([_one("Softmax", axis=1)], opset=11)
    result = torch_program(model, strip_softmax=False)(images)
    torch.testing.assert_close(result, images.flatten(1).softmax(1).reshape(images.shape))


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_a_final_softmax_is_stripped_from_behind_shape_operators(operator):
    constants = {"target": np.array([-1, 48])}
    nodes = [
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node(operator, ["flat"], ["p"]),
        helper.make_node("Identity", ["p"], ["i"]),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(torch_program(_model(nodes, constants=constants))(images), images.flatten(1))


def test_a_softmax_that_is_more_than_the_output_stays():
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["p"]),
        helper.make_node("Mul", ["p", "flat"], ["y"]),
    ]
    images = torch.rand(2, 3, 4, 4)
    flat = images.flatten(1)
    torch.testing.assert_close(torch_program(_model(nodes))(images), flat.softmax(1) * flat)


def test_a_batch_that_cannot_be_stretched_is_run_in_parts():
    # With one sample the reshape acts as a transposition; no constant target shape does that for several samples.
    constants = {"swapped": np.array([4, 1, 12]), "back": np.array([1, 48])}
    nodes = [
        helper.make_node("Reshape", ["x", "back"], ["flat"]),
        helper.make_node("Reshape", ["flat", "swapped"], ["rows"]),
        helper.make_node("CumSum", ["rows", "first"], ["sums"]),
        helper.make_node("Reshape", ["sums", "back"], ["y"]),
    ]
    model = _model(nodes, shape=(1, 3, 4, 4), constants={**constants, "first": np.array(0)})
    images = torch.rand(5, 3, 4, 4, requires_grad=True)
    expected = images.reshape(5, 4, 12).cumsum(1).reshape(5, 48)
    torch.testing.assert_close(torch_program(model)(images), expected)


def test_one_of_several_outputs_and_its_needs_alone():
    nodes = [
        helper.make_node("Relu", ["x"], ["good"]),
        helper.make_node("Mystery", ["x"], ["bad"], domain="com.example"),
    ]
    model = _model(nodes, outputs=("bad", "good"))
    images = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(torch_program(model, output="good")(images), images)
    with pytest.raises(NotAssessableError, match=r"com\.example::Mystery"):
        torch_program(model)
    with pytest.raises(NotAssessableError, match="no output 'other'"):
        torch_program(model, output="other")


# ------------------------------------------------------------------------------------------------------------ errors


def test_every_unsupported_operator_is_named_with_the_remedy():
    branch = helper.make_graph([], "branch", [], [])
    nodes = [
        helper.make_node("NonMaxSuppression", ["x", "x"], ["a"], name="boxes"),
        helper.make_node("FusedConv", ["a"], ["b"], domain="com.example"),
        helper.make_node("If", ["b"], ["y"], then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(NotAssessableError) as caught:
        torch_program(_model(nodes))
    text = str(caught.value)
    assert "operator ai.onnx::NonMaxSuppression (node 'boxes')" in text
    assert "com.example::FusedConv, ai.onnx::If (control flow)" in text
    assert "audit the PyTorch module itself" in text


def test_a_function_under_a_standard_operators_name_is_refused():
    body = [helper.make_node("Neg", ["a"], ["b"])]
    function = helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    with pytest.raises(NotAssessableError, match="a function defined in the file"):
        torch_program(_model([_one("Relu")], functions=[function]))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([_one("ConstantOfShape", ["long"])], {"long": np.array([2**20, 2**20])}),
        ([_one("Expand", ["x", "long"])], {"long": np.array([2**24, 3, 4, 4])}),
        ([_one("Tile", ["x", "long"])], {"long": np.array([2**10, 2**10, 2**5, 1])}),
        ([_one("Pad", ["x", "long"])], {"long": np.array([0, 0, 2**20, 2**20, 0, 0, 0, 0])}),
        ([_one("Range", ["zero", "end", "one"])], {"zero": np.array(0), "end": np.array(2**40), "one": np.array(1)}),
        ([_one("Resize", ["x", "", "long"])], {"long": np.array([1, 1, 2**12, 2**12], np.float32)}),
        ([_one("Conv", ["x", "w"], pads=[2**20] * 4)], {"w": np.ones((1, 3, 1, 1), np.float32)}),
        ([_one("Add", ["a", "b"])], {"a": np.ones((2**15, 1), np.float32), "b": np.ones((1, 2**15), np.float32)}),
        ([_one("Einsum", ["a", "a"], equation="i,j->ij")], {"a": np.ones(2**15, np.float32)}),
        ([_one("MatMul", ["a", "b"])], {"a": np.ones((2**15, 1), np.float32), "b": np.ones((1, 2**15), np.float32)}),
    ],
    ids=lambda value: value[0].op_type if isinstance(value, list) else "",
)
def test_a_result_of_unreasonable_size_is_refused_before_memory_is_taken(nodes, constants):
    with pytest.raises(NotAssessableError, match="more than the limit"):
        torch_program(_model(nodes, constants=constants))(torch.rand(1, 3, 4, 4))


def test_repeated_doubling_is_refused(monkeypatch):
    from pytest_backdoor.models.graph import _interpreter

    monkeypatch.setattr(_interpreter, "MAXIMUM_ELEMENTS", 1000)
    names = ["x", *(f"v{index}" for index in range(9)), "y"]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)]
    with pytest.raises(NotAssessableError, match="more than the limit"):
        torch_program(_model(nodes))(torch.rand(2, 3, 4, 4))


def test_external_data_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(64))
    model = _model([_one("Mul", ["x", "w"])], constants={"w": np.ones(4, np.float32)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    with pytest.raises(NotAssessableError, match="lies in another file"):
        torch_program(model)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (_model([_one("Relu")], opset=6), "opset 6.*version_converter"),
        (_model([_one("Relu")], opset=99), "opset 99"),
        (_model([_one("Softmax", axis="last")]), "'axis' of Softmax.*is 'last', not an integer"),
        (_model([_one("Softmax", axis=7)]), "'axis' of Softmax"),
        (_model([_one("MaxPool", kernel_shape=[2])]), "'kernel_shape' of MaxPool"),
        (_model([_one("Flatten", axis=9)]), "'axis' of Flatten"),
        (_model([_one("Transpose", perm=[0, 1])]), r"Transpose \(node 'here'\) cannot be computed on inputs of shapes"),
        (_model([_one("Relu", ["x", "x"])]), "Relu.*cannot be computed"),
        (_model([_one("Relu", ["later"]), helper.make_node("Relu", ["x"], ["later"])]), "malformed|before it exists"),
        (_model([_one("Relu"), _one("Neg")]), "second time"),
        (_model([helper.make_node("Relu", ["x"], ["z"])]), "never computes its output 'y'"),
        (_model([_one("Relu")], kind=TensorProto.STRING), "type STRING"),
        (_model([_one("Relu")], shape=("N", 8, 8, 3)), "takes images of shape .*check the stated layout"),
    ],
)
def test_malformed_or_unsuitable_graphs(model, text):
    with pytest.raises(NotAssessableError, match=text):
        torch_program(model, strip_softmax=False)(torch.rand(2, 3, 4, 4))


def test_two_inputs_are_refused_by_name():
    model = _model([_one("Add", ["x", "other"])])
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    with pytest.raises(NotAssessableError, match=r"2 inputs \(x, other\)"):
        torch_program(model)


def test_weights_ask_for_no_gradient(exported):
    plan = torch_program(exported.model).run.plan
    assert not any(tensor.requires_grad for tensor in plan.constants.values())
    assert isinstance(torch_program(exported.model), _program._Program)
