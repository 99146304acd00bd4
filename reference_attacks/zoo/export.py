"""Networks of a zoo as ONNX files, for whoever wants to see what a scan makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_backdoor.files import write_atomically

from .images import read_images
from .store import Zoo, load_network, load_zoo

OPSET = 20  # the first in which exporters write a spatial transformer's sampling as GridSample
CHECKED_IMAGES = 100
TOLERANCE = 1e-3


def export_networks(folder: Path, names: Sequence[str], out: Path) -> list[Path]:
    """Write ``NAME.onnx`` and ``NAME.json``, what was done to the network, for each of ``names``; returns the models.

    Raises ValueError for a name that is not among the zoo's kept networks, and RuntimeError if the logits of ONNX
    Runtime on test images differ from torch's by more than 1e-3 of their spread.
    """
    zoo = load_zoo(folder)
    records = {record["name"]: record for record in zoo.records}
    unknown = sorted(set(names) - set(records))
    if unknown:
        raise ValueError(
            f"{folder} keeps no network {', '.join(unknown)}; its manifest.json lists those that it keeps."
        )
    return [_export(zoo, records[name], out) for name in names]


def onnx_bytes(network: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
    """An ONNX model with the weights inside: ``images``, float32 ``(n, C, H, W)`` in [0, 1], to ``logits``.

    What exporters note about the machine, such as the paths of source files, is left out.
    """
    program = torch.onnx.export(
        network.eval(),
        (torch.zeros(2, *input_shape),),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )
    assert program is not None
    model = program.model_proto
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        part.ClearField("doc_string")
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@torch.no_grad()
def checked_onnx_bytes(name: str, network: nn.Module, images: torch.Tensor) -> bytes:
    """As ``onnx_bytes``, for a network in evaluation mode that is called ``name``, compared on ``images``.

    ``images``: float32 ``(n, C, H, W)`` in [0, 1]. Raises RuntimeError if the logits of ONNX Runtime differ from
    torch's by more than 1e-3 of their spread.
    """
    import onnxruntime

    content = onnx_bytes(network, (images.shape[1], images.shape[2], images.shape[3]))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"images": images.numpy()})
    expected = network(images).numpy()
    if not np.abs(found - expected).max() <= TOLERANCE * expected.std():
        raise RuntimeError(f"{name} gives other logits in ONNX Runtime than in torch; try another version of either.")
    return content


def _export(zoo: Zoo, record: dict[str, Any], out: Path) -> Path:
    network = load_network(record, zoo.input_shape, zoo.classes)
    images = read_images(zoo.folder).test.images[:CHECKED_IMAGES].float() / 255
    content = checked_onnx_bytes(record["name"], network, images)
    path = out / f"{record['name']}.onnx"
    about = {name: value for name, value in record.items() if name not in ("folder", "rejected")}
    write_atomically(path.with_suffix(".json"), f"{json.dumps(about, indent=1)}\n".encode())
    write_atomically(path, content)
    return path
