"""An ONNX graph as a differentiable, batched torch function, for the checks that need gradients at the pixels."""

from __future__ import annotations

from ._program import is_quantised, run_graph, torch_program

__all__ = ["is_quantised", "run_graph", "torch_program"]
