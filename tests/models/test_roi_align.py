from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

torch = pytest.importorskip("torch")

from pytest_backdoor.errors import NotAssessableError  # noqa: E402
from pytest_backdoor.models.graph import run_graph, torch_program  # noqa: E402

SIZES = {"output_height": 5, "output_width": 3}


def make_model(opset: int = 17, **attributes: object) -> onnx.ModelProto:
    """One RoiAlign on (N, C, H, W) features."""
    inputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", "c", "h", "w"]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["b", 4]),
        helper.make_tensor_value_info("images", TensorProto.INT64, ["b"]),
    ]
    output = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None)
    node = helper.make_node("RoiAlign", ["features", "boxes", "images"], ["pooled"], **attributes)
    graph = helper.make_graph([node], "pool", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def make_values(images: int = 3, boxes: int = 11) -> dict[str, np.ndarray]:
    """Boxes of many sizes, some of them partly outside of the images."""
    rng = np.random.default_rng(4)
    corners = rng.uniform(-12, 60, (boxes, 2))
    ends = corners + rng.uniform(0.2, 40, (boxes, 2))
    return {
        "features": rng.normal(size=(images, 4, 12, 15)).astype(np.float32),
        "boxes": np.concatenate([corners, ends], axis=1).astype(np.float32),
        "images": rng.integers(0, images, boxes),
    }


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["half_pixel", "output_half_pixel"])
def test_agrees_with_both_runtimes(mode, ratio):
    from torchvision.ops import roi_align

    model = make_model(coordinate_transformation_mode=mode, sampling_ratio=ratio, spatial_scale=0.25, **SIZES)
    values = make_values()
    found = run_graph(model, values)["pooled"]
    rois = torch.cat([torch.from_numpy(values["images"])[:, None].float(), torch.from_numpy(values["boxes"])], dim=1)
    expected = roi_align(
        torch.from_numpy(values["features"]), rois, (5, 3), 0.25, ratio or -1, aligned=mode == "half_pixel"
    )
    assert found.shape == (11, 4, 5, 3)
    assert torch.allclose(found, expected, atol=1e-5)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.allclose(found.numpy(), session.run(None, values)[0], atol=1e-5)


@pytest.mark.parametrize(("opset", "aligned"), [(10, False), (16, True)])
def test_default_mode_depends_on_opset(opset, aligned):
    from torchvision.ops import roi_align

    values = make_values(images=1)
    found = run_graph(make_model(opset, sampling_ratio=2, **SIZES), values)["pooled"]
    boxes = [torch.from_numpy(values["boxes"])]
    assert torch.allclose(
        found, roi_align(torch.from_numpy(values["features"]), boxes, (5, 3), 1.0, 2, aligned=aligned), atol=1e-5
    )


def test_no_boxes_and_empty_boxes():
    values = make_values()
    none = values | {"boxes": values["boxes"][:0], "images": values["images"][:0]}
    assert run_graph(make_model(**SIZES), none)["pooled"].shape == (0, 4, 5, 3)
    flat = values | {"boxes": np.repeat(values["boxes"][:, :2], 2, axis=0).reshape(11, 4)}
    assert torch.isfinite(run_graph(make_model(**SIZES), flat)["pooled"]).all()


def test_gradient():
    from pytest_backdoor.models.graph._registry import OPERATORS, Node

    values = make_values(images=2, boxes=4)
    node = Node("RoiAlign", "", 17, {**SIZES, "sampling_ratio": 2, "spatial_scale": 0.25}, soft=True)
    features = torch.from_numpy(values["features"]).double().requires_grad_()
    boxes, images = torch.from_numpy(values["boxes"]).double(), torch.from_numpy(values["images"])
    assert torch.autograd.gradcheck(lambda value: OPERATORS["RoiAlign"].function(node, value, boxes, images), features)


@pytest.mark.parametrize(
    ("changes", "values", "message"),
    [
        ({"mode": "max"}, {}, "'max'"),
        ({"coordinate_transformation_mode": "other"}, {}, "half_pixel"),
        ({}, {"images": np.full(11, 3)}, "batch of 3"),
        ({"output_height": 2**20, "output_width": 2**20}, {}, "limit"),
        ({"sampling_ratio": 0}, {"boxes": np.array([[0, 0, 1e12, 1e12]] * 11, np.float32)}, "limit"),
    ],
)
def test_refusals(changes, values, message):
    with pytest.raises(NotAssessableError, match=message):
        run_graph(make_model(**{**SIZES, **changes}), make_values() | values)


def test_no_program_of_several_inputs():
    with pytest.raises(NotAssessableError, match="3 inputs"):
        torch_program(make_model(**SIZES))
