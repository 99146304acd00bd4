from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_builders import linear_model, save, subject
from ramps import prepared, ramp_images, ramp_model

from pytest_backdoor.models import Subject
from pytest_backdoor.settings import make_settings


def found_for(model, tmp_path, **settings):
    opened = subject(save(tmp_path / "net.onnx", model), **settings)
    assert opened.classifier.classes
    return opened.describe()["preprocessing"]


@pytest.mark.parametrize(
    "before",
    [
        (("Div", 255.0),),
        (("Mul", 1 / 255),),
        (("Div", 127.5), ("Sub", 1.0)),
        (("Mul", 1 / 127.5), ("Add", -1.0)),
        (("Div", 255.0), ("Sub", 0.5), ("Div", 0.2)),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_graph_that_first_scales_pixels_takes_pixels(tmp_path, before, layout):
    found = found_for(ramp_model(prepared(layout=layout), 3, before=before), tmp_path)
    assert (found["origin"], found["input_range"], found["layout"]) == ("graph", [0, 255], layout)
    assert (found["samples"], found["note"]) == (None, "The first operator of its graph scales pixels.")


@pytest.mark.parametrize(
    "before",
    [
        (),
        (("Sub", 0.5), ("Div", 255.0)),
        (("Div", 256.0),),
        (("Mul", 255.0),),
        (("Mul", 127.5), ("Div", 127.5)),
        (("Add", 255.0),),
    ],
)
def test_other_graphs_say_nothing(tmp_path, before):
    found = found_for(ramp_model(prepared(), before=before), tmp_path)
    assert (found["origin"], found["input_range"], found["note"]) == ("assumed", [0, 1], "")


def scaled(nodes, constants, element=TensorProto.FLOAT):
    """A model whose first operators are ``nodes``, from x to v."""
    matrix = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    tail = [helper.make_node("Flatten", ["v"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(
        [*nodes, *tail],
        "g",
        [helper.make_tensor_value_info("x", element, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(matrix, "w"), *constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


WHITE = numpy_helper.from_array(np.full((1, 3, 1, 1), 255, np.float32), "white")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Div", "x white", "v")], "graph"),
        ([("Identity", "x", "a"), ("Div", "a white", "v")], "graph"),
        ([("Div", "x white", "a"), ("Add", "a x", "v")], "assumed"),  # read twice
        ([("Div", "white x", "v")], "assumed"),
        ([("Mul", "x x", "v")], "assumed"),
        ([("Relu", "x", "a"), ("Div", "a white", "v")], "assumed"),
    ],
)
def test_which_operators_count(tmp_path, nodes, expected):
    made = [helper.make_node(kind, inputs.split(), [output]) for kind, inputs, output in nodes]
    model = scaled(made, [WHITE])
    if expected == "assumed" and nodes[0][0] == "Div" and nodes[0][1] == "white x":
        made.insert(0, helper.make_node("Constant", [], ["one"], value_float=1.0))
        made[1:] = [helper.make_node("Add", ["x", "one"], ["a"]), helper.make_node("Div", ["white", "a"], ["v"])]
        model = scaled(made, [WHITE])  # so that black is not divided by
    assert found_for(model, tmp_path)["origin"] == expected


def test_a_constant_may_be_an_operator(tmp_path):
    value = numpy_helper.from_array(np.float32(255))
    nodes = [helper.make_node("Constant", [], ["c"], value=value), helper.make_node("Div", ["x", "c"], ["v"])]
    assert found_for(scaled(nodes, []), tmp_path)["origin"] == "graph"


def test_channels_that_are_divided_by_different_numbers_say_nothing(tmp_path):
    uneven = numpy_helper.from_array(np.float32([255, 1, 255]).reshape(1, 3, 1, 1), "white")
    assert (
        found_for(scaled([helper.make_node("Div", ["x", "white"], ["v"])], [uneven]), tmp_path)["origin"] == "assumed"
    )


@pytest.mark.parametrize("declared", [{"input_range": [0, 1]}, {"mean": [0.0]}, {"std": [1.0]}])
def test_what_is_declared_comes_first(tmp_path, declared):
    found = found_for(ramp_model(prepared(), before=(("Div", 255.0),)), tmp_path, **declared)
    assert (found["origin"], found["input_range"]) == ("declared", [0, 1])


def test_whole_numbers_need_no_operator(tmp_path):
    found = found_for(linear_model(dtype="uint8"), tmp_path)
    assert (found["origin"], found["input_range"], found["note"]) == ("graph", [0, 255], "")


@pytest.mark.parametrize(("before", "expected"), [((), [0, 255]), ((("Mul", 255.0),), [0, 1])])
def test_samples_know_better_than_the_graph(tmp_path, before, expected):
    images, labels = ramp_images()
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    path = save(tmp_path / "net.onnx", ramp_model(prepared(), before=(("Div", 255.0), *before)))
    opened = Subject("net.onnx", make_settings({"data": "data.npz"}, where="test"), path=path, root=tmp_path)
    assert opened.classifier.classes
    found = opened.describe()["preprocessing"]
    assert (found["origin"], found["input_range"]) == ("inferred", expected)
