"""ONNX files: each bad one breaks its rule and is never opened, each genuine one breaks none."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from corpus.onnx_files import (
    CASES,
    DATA,
    GOOD,
    SECRET,
    SECRET_BYTES,
    WEIGHTS,
    external_model,
    external_tensor,
    field,
    good_model,
    save,
    varint,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_builders import SHAPE, linear_model, subject, weights, with_external_data

from pytest_backdoor.errors import ModelError
from pytest_backdoor.models import _onnx_session
from pytest_backdoor.models.inspection import inspect
from pytest_backdoor.models.inspection._dtypes import ONNX
from pytest_backdoor.models.inspection._finite import not_finite
from pytest_backdoor.models.inspection._onnx import inspect_onnx
from pytest_backdoor.models.inspection._onnx_typed import unpacked
from pytest_backdoor.models.inspection._wire import MAX_DEPTH, MAX_FIELDS, MAX_MESSAGES
from pytest_backdoor.rules import RULES

links = pytest.mark.skipif(os.name == "nt", reason="links need privileges there")


def rules(content: bytes | onnx.ModelProto, **external: bytes) -> set[str]:
    content = content if isinstance(content, bytes) else content.SerializeToString()
    named = {f"{name}.bin": data for name, data in external.items()}
    return {problem.rule for problem in inspect_onnx(content, "net.onnx", named)}


@links
@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"row_{case.row}_{case.name}")
def test_a_bad_file_breaks_its_rule_and_is_never_opened(tmp_path, monkeypatch, case):
    opened = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **options: opened.append(args))
    canary = tmp_path / "canary"
    path = case.write(tmp_path / "files", canary)
    found = subject(path)
    broken = {problem.rule for problem in found.problems}
    assert broken & case.rules
    for problem in found.problems:
        assert problem.message.isprintable()
        assert "net.onnx" in problem.message
        assert problem.remedy
        assert len(problem.message) < 700
    if any(RULES[rule].refuses for rule in broken):
        with pytest.raises(ModelError, match=r"net\.onnx"):
            _ = found.classifier
        assert not opened
    assert not canary.exists()


def test_the_secret_beside_the_model_is_not_read(tmp_path):
    """What the cases with a path out of the folder lead to is never among the files that were read."""
    secret = hashlib.sha256(SECRET_BYTES).hexdigest()
    for case in CASES:
        if "external-data-outside" in case.rules:
            files = subject(case.write(tmp_path / case.name, tmp_path / "canary")).files
            assert secret not in {file.sha256 for file in files}, case.name


# Genuine models


def no_problems(content: bytes | onnx.ModelProto, **external: bytes) -> None:
    assert rules(content, **external) == set()


def test_a_plain_classifier_has_no_problem():
    no_problems(GOOD)
    assert inspect("onnx", GOOD, "net.onnx", {}) == []


def test_the_example_of_the_documentation_has_no_problem():
    for path in (Path(__file__).parents[2] / "docs" / "examples").glob("*.onnx"):
        no_problems(path.read_bytes())


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_an_export_of_torchvision_has_no_problem(dynamo):
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    if dynamo:
        pytest.importorskip("onnxscript")
    network, buffer = models.mobilenet_v3_small(num_classes=5).eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, 32, 32),), buffer, dynamo=dynamo, verbose=False)
    no_problems(buffer.getvalue())


def quantised_model() -> onnx.ModelProto:
    """Weights of 8 bits between QuantizeLinear and DequantizeLinear."""
    scale = numpy_helper.from_array(np.float32(0.02), "scale")
    zero = numpy_helper.from_array(np.int8(0), "zero")
    stored = numpy_helper.from_array((WEIGHTS * 50).astype(np.int8), "stored")
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["w8"]),
    ]
    model = good_model(*nodes)
    model.graph.initializer.extend([scale, zero, stored])
    return model


def contributed_model() -> onnx.ModelProto:
    model = good_model(
        helper.make_node("Gelu", ["image"], ["g"], domain="com.microsoft"),
        helper.make_node("FusedMatMul", ["g", "g"], ["f"], domain="com.microsoft", transB=1),
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def function_model() -> onnx.ModelProto:
    """A function of the model that calls another."""
    model = good_model(helper.make_node("outer", ["image"], ["o"], domain="own"))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.opset_import.append(helper.make_opsetid("own", 1))
    for name, node in (
        ("outer", helper.make_node("inner", ["x"], ["y"], domain="own")),
        ("inner", helper.make_node("Relu", ["x"], ["y"])),
    ):
        model.functions.append(helper.make_function("own", name, ["x"], ["y"], [node], imports))
    return model


def masked_model() -> onnx.ModelProto:
    """The mask of a causal attention and the bound of a Clip, both infinite on purpose."""
    model = good_model()
    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    model.graph.initializer.extend(
        [numpy_helper.from_array(mask, "mask"), numpy_helper.from_array(np.float32(np.inf), "bound")]
    )
    return model


@pytest.mark.parametrize("make", [quantised_model, contributed_model, function_model, masked_model])
def test_models_of_many_kinds_open_and_have_no_problem(make):
    content = make().SerializeToString()
    onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    no_problems(content)


TYPES = [number for name, number in TensorProto.DataType.items() if name != "UNDEFINED" and "FLOAT6" not in name]

SMALL_FLOATS = [name for name, _ in TensorProto.DataType.items() if name.startswith(("FLOAT8", "FLOAT16", "BFLOAT16"))]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("number", TYPES, ids=TensorProto.DataType.Name)
def test_tensors_of_every_type_have_no_problem(number, raw):
    """As onnx itself writes them; five elements, so that types of less than a byte do not fill their last one."""
    if number == TensorProto.STRING:
        tensor = helper.make_tensor("t", number, [5], [b"a", b"", b"c", b"d", b"e"])
    else:
        values = np.ones(5, helper.tensor_dtype_to_np_dtype(number))
        tensor = numpy_helper.from_array(values, "t") if raw else helper.make_tensor("t", number, [5], values)
    model = good_model()
    model.graph.initializer.append(tensor)
    no_problems(model)
    model.graph.initializer[-1].dims[0] = 11
    assert rules(model) == {"inconsistent-tensors"}


@pytest.mark.slow
def test_no_model_of_onnx_own_operator_tests_has_a_problem():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for case in collect_testcases(None) if case.model is not None]
    assert len(cases) > 1000
    broken = {case.name: rules(case.model) for case in cases}
    # A tree ensemble, whose thresholds are NaN on purpose.
    assert {name for name, found in broken.items() if found} <= {"test_ai_onnx_ml_tree_ensemble_set_membership"}


# External data


@pytest.mark.parametrize("method", [_onnx_session.FROM_MEMORY, "none_of_an_older_runtime"])
@pytest.mark.parametrize("options", [{"all_tensors_to_one_file": True, "location": "net.data"}, {}])
def test_what_onnx_saves_with_external_data_opens_from_memory(tmp_path, monkeypatch, options, method):
    monkeypatch.setattr(_onnx_session, "FROM_MEMORY", method)
    path = tmp_path / "net.onnx"
    onnx.save(linear_model(), path, save_as_external_data=True, size_threshold=0, convert_attribute=True, **options)
    found = subject(path)
    assert found.problems == ()
    assert len(found.files) > 1
    images = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    expected = subject(save(tmp_path / "whole", linear_model())).classifier.logits(images)
    np.testing.assert_allclose(found.classifier.logits(images), expected, atol=1e-5)


def test_a_right_checksum_is_no_problem():
    entries = (("location", DATA), ("checksum", hashlib.sha1(WEIGHTS.tobytes()).hexdigest().upper()))
    no_problems(external_model(*entries), net=WEIGHTS.tobytes())


@links
@pytest.mark.parametrize("shared", [False, True])
def test_row_34_a_hugging_face_cache_opens(tmp_path, shared):
    model = with_external_data(linear_model(), "net.onnx_data").SerializeToString()
    data = weights().tobytes()
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for name, content in (("net.onnx", model), ("net.onnx_data", data)):
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        store = tmp_path / "blobs" / "ab" / hashlib.md5(content).hexdigest() if shared else blob
        store.parent.mkdir(parents=True, exist_ok=True)
        store.write_bytes(content)
        if shared:
            blob.symlink_to(os.path.relpath(store, blob.parent))
        (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    found = subject(snapshot / "net.onnx")
    assert found.problems == ()
    assert found.classifier.classes == 4
    assert [file.sha256 for file in found.files] == [hashlib.sha256(content).hexdigest() for content in (model, data)]


def test_data_that_several_tensors_share_and_nobody_names_are_no_problem():
    model = external_model(("location", DATA), ("offset", "64"))
    model.graph.initializer.append(external_tensor(("location", f"./{DATA}"), ("offset", "64"), name="v"))
    no_problems(model, net=bytes(64) + WEIGHTS.tobytes() + bytes(1000))


# Not finite numbers


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_not_finite_numbers_are_told_from_finite_ones(name):
    """Every bit pattern of types of 8 and 16 bits, against what ml_dtypes says of it."""
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(name))
    bits = np.arange(1 << (8 * dtype.itemsize)).astype(f"<u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(bits.view(dtype).astype(np.float32))
    one = 0x3C00 if dtype.itemsize == 2 else 0x38  # beside it, so that it is neither alone nor a mask
    found = [not_finite(memoryview(np.array([value, one], bits.dtype).tobytes()), ONNX[name]) for value in bits]
    np.testing.assert_array_equal(found, ~finite)


def test_numbers_are_unpacked_from_varints():
    values = [0, 1, 127, 128, 16383, 16384, 65535]
    data = b"".join(map(varint, values))
    assert np.frombuffer(unpacked(data, 2), "<u2").tolist() == values
    for too_large in (65536, 1 << 30, (1 << 64) - 1):
        with pytest.raises(ValueError, match="too large"):
            unpacked(varint(too_large), 2)


# Limits


@pytest.mark.parametrize("end", [bytes(1), bytes(64), b"\x08", b"\x0b\x0c", field(900, bytes(5000))])
def test_row_41_what_follows_a_whole_model_is_refused(end):
    model = good_model()
    model.graph.doc_string = "x" * 5000  # longer than what tells the format
    no_problems(model)
    assert rules(model.SerializeToString() + end) == {"malformed-file"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (field(1, b"") * (MAX_MESSAGES + 10), "parts"),
        (field(1, field(1, b"") * (MAX_FIELDS + 10)), "fields"),
        (field(5, b"\x08\x01" * 100), "dimensions"),
    ],
    ids=["messages", "fields", "sizes"],
)
def test_too_many_parts_are_refused(inner, said):
    (problem,) = inspect_onnx(b"\x08\x09" + field(7, inner), "net.onnx", {})
    assert problem.rule == "malformed-file"
    assert said in problem.message


def test_a_depth_that_readers_accept_is_accepted():
    content = b""
    for level in range(MAX_DEPTH - 2):  # each GraphProto, NodeProto and AttributeProto counts
        content = field((6, 5, 1)[level % 3], content)
    content = b"\x08\x09" + field(7, content)
    onnx.ModelProto.FromString(content)
    assert not any("nested" in problem.message for problem in inspect_onnx(content, "net.onnx", {}))


def test_names_out_of_a_file_are_shown_short_and_printable():
    model = good_model(helper.make_node("Ev\nil" * 1000, ["image"], ["o"], domain="x\x1b[2J"))
    for problem in inspect_onnx(model.SerializeToString(), "net.onnx", {}):
        assert problem.message.isprintable()
        assert len(problem.message) < 500


def test_a_model_that_breaks_one_rule_often_says_so_a_few_times():
    model = good_model()
    model.graph.initializer.extend([TensorProto(name=f"t{number}", data_type=1, dims=[9]) for number in range(1000)])
    assert 1 < len(inspect_onnx(model.SerializeToString(), "net.onnx", {})) < 20


# Mutations


GENUINE = [
    GOOD,
    quantised_model().SerializeToString(),
    function_model().SerializeToString(),
    external_model(("location", DATA), ("offset", "4"), ("length", "192")).SerializeToString(),
]


@pytest.mark.timeout(120)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    content=st.sampled_from(GENUINE),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=9), st.integers(0, 9)), max_size=4),
    length=st.one_of(st.none(), st.integers(0, 2000)),
)
def test_a_changed_file_never_breaks_the_inspection(content, changes, length):
    mutated = bytearray(content)
    for place, inserted, removed in changes:
        start = place % (len(mutated) + 1)
        mutated[start : start + removed] = inserted
    changed = bytes(mutated[:length])
    for problem in inspect_onnx(changed, "net.onnx", {DATA: bytes(200)}):
        assert problem.message.isprintable()
        # What it raises itself says what is wrong; the name of an exception would be a hole in the inspection.
        assert "while it was inspected" not in problem.message


@links
def test_row_34_the_secret_exists_where_the_cases_lead(tmp_path):
    """The cases would find something if anything followed them."""
    path = save(tmp_path, external_model(("location", f"../{SECRET}")))
    assert (path.parent / f"../{SECRET}").read_bytes() == SECRET_BYTES
