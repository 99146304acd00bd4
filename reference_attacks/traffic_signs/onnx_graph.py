"""Writing an ONNX graph node by node, and the part that a detector and its head share: the convolutions.

The file depends on the weights alone: the same weights give the same bytes with every version of PyTorch, and no
exporter notes the machine's paths in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .backbones import Backbone, ConvolutionBlock
from .network import MEAN, SPREAD, SignDetector

OPSET = 17
IR_VERSION = 8
CLASSES_KEY = "labels"


class GraphWriter:
    """Collects nodes and constants; every method returns the name of what it added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node of ``operator``; the name is that of its first output, others end in ``.1`` and so on."""
        from onnx import helper

        name = f"{operator.lower()}-{len(self.nodes)}"
        names = [name, *(f"{name}.{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name, **attributes))
        return name

    def constant(self, value: torch.Tensor | np.ndarray[Any, Any] | Sequence[float], name: str = "") -> str:
        """A constant; float values become float32, whole numbers int64."""
        from onnx import numpy_helper

        array = value.detach().contiguous().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = name or f"constant-{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def named(self, operator: str, output: str, *inputs: str, **attributes: Any) -> None:
        """A node whose output has a given name: an output of the graph."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))

    def linear(self, x: str, layer: nn.Linear, name: str) -> str:
        """``x``, (n, features), through a fully connected layer."""
        weight, bias = self.constant(layer.weight, f"{name}.weight"), self.constant(layer.bias, f"{name}.bias")
        return self.node("Gemm", x, weight, bias, transB=1)

    def convolution(self, x: str, layer: nn.Conv2d, name: str) -> str:
        """``x`` through a convolution with a bias."""
        assert layer.bias is not None
        return self._convolution(x, layer, layer.weight, layer.bias, name)

    def _convolution(self, x: str, layer: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor, name: str) -> str:
        inputs = (self.constant(weight, f"{name}.weight"), self.constant(bias, f"{name}.bias"))
        padding = [int(value) for value in layer.padding]
        return self.node(
            "Conv",
            x,
            *inputs,
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.stride),
            dilations=list(layer.dilation),
            pads=padding * 2,
        )

    def normalised(self, images: str) -> str:
        """Images in [0, 1] as the backbone takes them."""
        mean, spread = (self.constant(np.array(values).reshape(3, 1, 1)) for values in (MEAN, SPREAD))
        return self.node("Div", self.node("Sub", images, mean), spread)

    def backbone(self, x: str, backbone: Backbone) -> str:
        """Normalised images through the convolutions, their batch normalisation folded in."""
        for name, layer in backbone.named_children():
            if isinstance(layer, ConvolutionBlock):
                weight, bias = layer.folded()
                x = self.node("Relu", self._convolution(x, layer.convolution, weight, bias, f"backbone.{name}"))
            elif isinstance(layer, nn.LocalResponseNorm):
                x = self.node("LRN", x, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
            elif isinstance(layer, nn.MaxPool2d):
                sizes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
                assert (layer.kernel_size, layer.stride, layer.padding) == (3, 2, 1)
                x = self.node("MaxPool", x, **sizes)
            else:
                raise TypeError(f"There is no ONNX form for the layer {name}, a {type(layer).__name__}.")
        return x

    def head(self, regions: str, detector: SignDetector) -> str:
        """Pooled regions ``(n, C, cells, cells)`` to the outputs of fc7, ``(n, head width)``."""
        x = self.node("Flatten", regions, axis=1)
        for name in ("fc6", "fc7"):
            x = self.node("Relu", self.linear(x, getattr(detector.roi_heads.box_head, name), name))
        return x

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any], notes: Mapping[str, str]) -> bytes:
        """The file, checked: ``inputs`` and ``outputs`` are value infos, ``notes`` its metadata."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="reference_attacks",
        )
        helper.set_model_props(model, dict(notes))
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content
