"""An ONNX graph as a differentiable, batched torch function, for the checks that need gradients at the pixels."""

from __future__ import annotations

from ._cut import RegionNames, RegionProgram, region_names, region_program, with_outputs
from ._program import is_quantised, run_graph, torch_program

__all__ = [
    "RegionNames",
    "RegionProgram",
    "is_quantised",
    "region_names",
    "region_program",
    "run_graph",
    "torch_program",
    "with_outputs",
]
