"""Choosing how to look through a file, by what it contains."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_backdoor.findings import Problem


def inspect(kind: str | None, content: bytes, display: str, external: Mapping[str, bytes]) -> list[Problem]:
    """What is wrong with the content of a model file.

    ``kind``: what ``sniff_format`` says of it. ``display``: its name in reports. ``external``: of an ONNX model, the
    content of its external data by location. Raises nothing on account of the content; nothing in it is run.
    """
    if kind == "onnx":
        from ._onnx import inspect_onnx

        return inspect_onnx(content, display, external)
    if kind == "safetensors":
        from ._safetensors import inspect_safetensors

        return inspect_safetensors(content, display)
    if kind in ("torch-zip", "pickle"):
        from ._torch import inspect_pickle, inspect_torch_zip

        return (inspect_torch_zip if kind == "torch-zip" else inspect_pickle)(content, display)
    from ._unopened import inspect_unopened

    return inspect_unopened(content, display, kind)
