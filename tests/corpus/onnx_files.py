"""Bad ONNX files: what is in their place, where they reach, what they claim and what they need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from corpus import Case

SHAPE, CLASSES = (1, 4, 4), 3
WEIGHTS = np.random.default_rng(3).normal(size=(16, CLASSES)).astype(np.float32)
SECRET, SECRET_BYTES = "secret.bin", WEIGHTS[::-1].tobytes()
DATA = "net.bin"


def good_model(*nodes: object, weights: TensorProto | None = None, opset: int = 17, ir_version: int = 9) -> ModelProto:
    """A linear classifier of 1×4×4 images with three classes; ``nodes`` come before its own."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *SHAPE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])
    own = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"])]
    tensor = numpy_helper.from_array(WEIGHTS, "w") if weights is None else weights
    graph = helper.make_graph([*nodes, *own], "classifier", [image], [scores], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def external_tensor(*entries: tuple[str, str], dims: tuple[int, ...] = WEIGHTS.shape, name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    return tensor


def external_model(*entries: tuple[str, str], dims: tuple[int, ...] = WEIGHTS.shape) -> ModelProto:
    return good_model(weights=external_tensor(*entries, dims=dims))


def save(folder: Path, content: ModelProto | bytes) -> Path:
    """Write the model into a folder of its own, with a file beside that folder which is not the model's."""
    path = folder / "model" / "net.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    (folder / SECRET).write_bytes(SECRET_BYTES)
    return path


def _file(make: Callable[[], ModelProto | bytes]) -> Callable[[Path, Path], Path]:
    return lambda folder, canary: save(folder, make())


def _with_data(make: Callable[[], ModelProto | bytes], data: bytes = WEIGHTS.tobytes()) -> Callable[[Path, Path], Path]:
    def write(folder: Path, canary: Path) -> Path:
        path = save(folder, make())
        path.with_name(DATA).write_bytes(data)
        return path

    return write


def _named(location: str) -> Callable[[Path, Path], Path]:
    return _with_data(lambda: external_model(("location", location)))


def _linked(location: str, link: Callable[[Path], None]) -> Callable[[Path, Path], Path]:
    def write(folder: Path, canary: Path) -> Path:
        path = save(folder, external_model(("location", location)))
        link(path.parent)
        return path

    return write


def _link_out_of_the_folder(folder: Path, canary: Path) -> Path:
    path = save(folder, external_model(("location", SECRET)))
    (folder / "outside").mkdir()
    (folder / "outside" / SECRET).write_bytes(SECRET_BYTES)
    path.with_name(SECRET).symlink_to(folder / "outside" / SECRET)
    return path


def _sparse(folder: Path, canary: Path) -> Path:
    path = save(folder, external_model(("location", DATA), ("length", str(1 << 40)), dims=(1 << 38,)))
    with path.with_name(DATA).open("wb") as stream:
        stream.truncate(1 << 40)
    return path


def _in_sparse_initializer() -> ModelProto:
    model = good_model()
    indices = helper.make_tensor("i", TensorProto.INT64, [0], [])
    outside = external_tensor(("location", f"../{SECRET}"), name="s")
    model.graph.sparse_initializer.append(SparseTensorProto(values=outside, indices=indices, dims=[4]))
    return model


def _in_function() -> ModelProto:
    """In a branch of an If within a function that nobody calls."""
    model = good_model()
    outside = external_tensor(("location", f"../{SECRET}"), name="s")
    constant = helper.make_node("Constant", [], ["k"], value=outside)
    branches = {
        name: helper.make_graph([constant], name, [], [helper.make_tensor_value_info("k", TensorProto.FLOAT, None)])
        for name in ("then_branch", "else_branch")
    }
    node = helper.make_node("If", ["q"], ["r"], **branches)
    function = helper.make_function("own", "f", ["q"], ["r"], [node], [helper.make_opsetid("", 17)])
    model.functions.append(function)
    return model


def _in_training_info() -> ModelProto:
    model = good_model()
    outside = external_tensor(("location", f"../{SECRET}"), name="s")
    model.training_info.add().algorithm.CopyFrom(helper.make_graph([], "training", [], [], [outside]))
    return model


def _hidden_location(location_is_external: bytes) -> bytes:
    """Weights both inside and, for readers that drop the high bits of numbers, in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=WEIGHTS.shape, float_data=WEIGHTS.ravel())
    tensor.external_data.add(key="location", value=DATA)
    model = good_model()
    model.graph.ClearField("initializer")
    graph = model.graph.SerializeToString() + field(5, tensor.SerializeToString() + location_is_external)
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


def _external_with_high_bits() -> bytes:
    """``data_location`` is 2^32 + 1; the official readers keep 32 bits of it, which say EXTERNAL."""
    return _hidden_location(varint(14 << 3) + varint((1 << 32) + 1))


def _tag_with_high_bits() -> bytes:
    """The tag of ``data_location`` plus 2^32: ONNX Runtime reads it, upb takes the file for damaged."""
    return _hidden_location(varint((1 << 32) + (14 << 3)) + varint(1))


def _deep(levels: int = 1200) -> bytes:
    """Graphs within graphs: ModelProto.graph.node.attribute.g.node.attribute.g..."""
    content = b""
    for _ in range(levels):  # GraphProto.node (1), NodeProto.attribute (5), AttributeProto.g (6)
        for number in (6, 5, 1):
            content = field(number, content)
    return b"\x08\x09" + field(8, b"\x10\x11") + field(7, content)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field as protobuf writes it."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _tensor(**changes: object) -> ModelProto:
    """The classifier with its weights' fields replaced; ``dims`` and typed data as lists."""
    tensor = numpy_helper.from_array(WEIGHTS, "w")
    for name, value in changes.items():
        if isinstance(value, list):
            tensor.ClearField(name)
            getattr(tensor, name).extend(value)
        elif value is None:
            tensor.ClearField(name)
        else:
            setattr(tensor, name, value)
    return good_model(weights=tensor)


def _weights(value: float, dtype: str = "float32") -> np.ndarray:
    weights = WEIGHTS.astype(dtype)
    weights[1, 1] = value
    return weights


def _bfloat16_nan() -> ModelProto:
    tensor = TensorProto(name="b", data_type=TensorProto.BFLOAT16, dims=[2], raw_data=b"\x80\x3f\xc0\x7f")
    model = good_model()
    model.graph.initializer.append(tensor)
    return model


def _recursive(*bodies: str) -> ModelProto:
    """Functions f0, f1... of which each calls the ones that its body names."""
    model = good_model(helper.make_node("f0", ["image"], ["unused"], domain="own"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for number, body in enumerate(bodies):
        calls = [helper.make_node(name, ["x"], [f"y{place}"], domain="own") for place, name in enumerate(body.split())]
        if not calls:
            calls = [helper.make_node("Relu", ["x"], ["y0"])]
        model.functions.append(helper.make_function("own", f"f{number}", ["x"], ["y0"], calls, imports))
    return model


def _many_nodes(count: int = 1_000_000) -> bytes:
    node = field(1, b"x") + field(2, b"x") + field(4, b"Relu")
    return b"\x08\x09" + field(8, b"\x10\x11") + field(7, field(1, node) * count)


def _custom(domain: str, name: str) -> ModelProto:
    model = good_model(helper.make_node(name, ["image"], ["unused"], domain=domain))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def _twice() -> bytes:
    """Two graphs, which protobuf merges and other readers take the last of."""
    graph = GraphProto(name="second").SerializeToString()
    return good_model().SerializeToString() + field(7, graph)


def _case(row: int, name: str, write: Callable[[Path, Path], Path], *rules: str) -> Case:
    return Case(row=row, name=name, write=write, rules=frozenset(rules))


GOOD = good_model().SerializeToString()
INSTEAD, OUTSIDE, SIZES = "lfs-pointer-or-error-page", "external-data-outside", "inconsistent-tensors"
MALFORMED, VERSION, NOT_FINITE = "malformed-file", "unsupported-version", "not-finite-weights"
CUSTOM, PATH = "custom-operators", "unsafe-path"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"
PLACE = ("location", DATA)
SIZE = WEIGHTS.nbytes

CASES: tuple[Case, ...] = (
    _case(29, "lfs_pointer", _file(lambda: POINTER), INSTEAD),
    _case(29, "error_page", _file(lambda: PAGE), INSTEAD),
    _case(29, "empty", _file(lambda: b""), INSTEAD),
    _case(29, "text", _file(lambda: b"404: Not Found\n"), INSTEAD),
    _case(31, "data_are_a_link_out_of_the_folder", _link_out_of_the_folder, OUTSIDE),
    _case(31, "data_are_a_link_to_itself", _linked(DATA, lambda at: (at / DATA).symlink_to(DATA)), PATH),
    _case(31, "data_are_a_folder", _linked(DATA, lambda at: (at / DATA).mkdir()), PATH),
    _case(33, "parent", _named(f"../{SECRET}"), OUTSIDE),
    _case(33, "absolute", _named("/etc/hostname"), OUTSIDE),
    _case(33, "parent_within", _named(f"a/../../{SECRET}"), OUTSIDE),
    _case(33, "backslash", _named(f"..\\{SECRET}"), OUTSIDE),
    _case(33, "linked_folder", _linked(f"sub/{SECRET}", lambda at: (at / "sub").symlink_to("..")), OUTSIDE),
    _case(34, "link_to_a_neighbour", _linked(DATA, lambda at: (at / DATA).symlink_to(f"../{SECRET}")), OUTSIDE),
    _case(35, "hard_link", _linked(DATA, lambda at: os.link(at.parent / SECRET, at / DATA)), PATH),
    _case(36, "nul", _named(f"{DATA}\0x"), OUTSIDE),
    _case(37, "two_locations", _with_data(lambda: external_model(("location", "../x"), PLACE)), OUTSIDE),
    _case(37, "two_offsets", _with_data(lambda: external_model(PLACE, ("offset", "0"), ("offset", "4"))), MALFORMED),
    _case(37, "unknown_key", _with_data(lambda: external_model(PLACE, ("__class__", "x"))), MALFORMED),
    _case(37, "base_path", _with_data(lambda: external_model(PLACE, ("basepath", "/etc"))), OUTSIDE),
    _case(37, "memory_address", _named("*/_ORT_MEM_ADDR_/*"), OUTSIDE),
    _case(37, "location_with_high_bits", _with_data(_external_with_high_bits, WEIGHTS[::-1].tobytes()), MALFORMED),
    _case(37, "tag_with_high_bits", _with_data(_tag_with_high_bits, WEIGHTS[::-1].tobytes()), MALFORMED),
    _case(38, "sparse_initializer", _file(_in_sparse_initializer), OUTSIDE),
    _case(38, "function", _file(_in_function), OUTSIDE),
    _case(38, "training_info", _file(_in_training_info), OUTSIDE),
    _case(39, "wrong_checksum", _with_data(lambda: external_model(PLACE, ("checksum", "0" * 40))), "hash-mismatch"),
    _case(40, "length_of_a_tebibyte", _with_data(lambda: external_model(PLACE, ("length", str(1 << 40)))), SIZES),
    _case(40, "negative_offset", _with_data(lambda: external_model(PLACE, ("offset", "-5"))), SIZES),
    _case(40, "offset_in_words", _with_data(lambda: external_model(PLACE, ("offset", "four"))), SIZES),
    _case(40, "offset_in_wide_digits", _with_data(lambda: external_model(PLACE, ("offset", "４"))), SIZES),
    _case(40, "short_length", _with_data(lambda: external_model(PLACE, ("length", "8"))), SIZES),
    _case(40, "short_file", _with_data(lambda: external_model(PLACE), WEIGHTS.tobytes()[:-4]), SIZES),
    _case(40, "sparse_file_of_a_tebibyte", _sparse, PATH),
    _case(41, "truncated", _file(lambda: GOOD[:-20]), MALFORMED),
    _case(41, "trailing_zeros", _file(lambda: GOOD + bytes(64)), MALFORMED, "unknown-format"),
    _case(41, "trailing_payload", _file(lambda: GOOD + field(900, bytes(5000))), MALFORMED),
    _case(41, "random", _file(lambda: np.random.default_rng(0).bytes(4000)), "unknown-format"),
    _case(41, "deep", _file(_deep), MALFORMED),
    _case(41, "two_graphs", _file(_twice), MALFORMED),
    _case(42, "short_data", _file(lambda: _tensor(raw_data=WEIGHTS.tobytes()[:-4])), SIZES),
    _case(42, "long_data", _file(lambda: _tensor(raw_data=WEIGHTS.tobytes() + bytes(4))), SIZES),
    _case(42, "no_data", _file(lambda: _tensor(raw_data=None)), SIZES),
    _case(42, "data_twice", _file(lambda: _tensor(float_data=[1.0] * 48)), SIZES),
    _case(42, "huge_sizes", _file(lambda: _tensor(dims=[1 << 62, 1 << 62])), SIZES),
    _case(42, "negative_size", _file(lambda: _tensor(dims=[-4, -12])), SIZES),
    _case(42, "many_sizes", _file(lambda: _tensor(dims=[1 << 62] * 100_000)), MALFORMED),
    _case(42, "another_type", _file(lambda: _tensor(data_type=TensorProto.DOUBLE)), SIZES),
    _case(42, "no_type", _file(lambda: _tensor(data_type=77)), SIZES),
    _case(42, "data_of_another_type", _file(lambda: _tensor(raw_data=None, int64_data=[1] * 48)), SIZES),
    _case(42, "huge_external", _with_data(lambda: external_model(PLACE, dims=(1 << 62, 4))), SIZES),
    _case(42, "negative_external", _with_data(lambda: external_model(PLACE, dims=(-4, -12))), SIZES),
    _case(43, "nan", _file(lambda: _tensor(raw_data=_weights(np.nan).tobytes())), NOT_FINITE),
    _case(43, "infinity", _file(lambda: _tensor(raw_data=_weights(np.inf).tobytes())), NOT_FINITE),
    _case(43, "typed_nan", _file(lambda: _tensor(raw_data=None, float_data=[*[0.5] * 47, float("nan")])), NOT_FINITE),
    _case(
        43,
        "half_precision_nan",
        _file(lambda: good_model(weights=numpy_helper.from_array(_weights(np.nan, "float16"), "w"))),
        NOT_FINITE,
    ),
    _case(43, "bfloat16_nan", _file(_bfloat16_nan), NOT_FINITE),
    _case(43, "external_nan", _with_data(lambda: external_model(PLACE), _weights(np.nan).tobytes()), NOT_FINITE),
    _case(45, "custom_domain", _file(lambda: _custom("evil.ops", "Run")), CUSTOM),
    _case(45, "custom_name_in_a_known_domain", _file(lambda: _custom("com.microsoft", "Run")), CUSTOM),
    _case(45, "code_of_another_library", _file(lambda: _custom("com.microsoft", "EPContext")), CUSTOM),
    _case(45, "opset_999", _file(lambda: good_model(opset=999)), VERSION),
    _case(45, "ir_99", _file(lambda: good_model(ir_version=99)), VERSION),
    _case(45, "function_that_calls_itself", _file(lambda: _recursive("f0")), MALFORMED),
    _case(45, "functions_that_call_each_other", _file(lambda: _recursive("f1", "f2", "f0")), MALFORMED),
    _case(45, "functions_that_unfold", _file(lambda: _recursive(*(f"f{n} f{n}" for n in range(1, 40)), "")), MALFORMED),
    _case(45, "a_million_nodes", _file(_many_nodes), MALFORMED),
)
