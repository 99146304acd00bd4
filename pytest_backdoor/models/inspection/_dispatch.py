"""Choosing how to look through a file, by what it contains."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_backdoor.findings import Problem

IN_ITS_PLACE, UNKNOWN, RUNS_CODE = "lfs-pointer-or-error-page", "unknown-format", "unsafe-serialisation"
# What is no model that could be looked through: the rule, the message after the name of the file, the remedy.
REFUSED = {
    "empty": (IN_ITS_PLACE, "is an empty file", "Fetch or export the model again."),
    "text": (IN_ITS_PLACE, "is a text file, not a model", "Check the path or fetch the file again."),
    "html": (
        IN_ITS_PLACE,
        "is an HTML page, not a model: the download gave an error or a login page",
        "Fetch the file again.",
    ),
    "lfs-pointer": (IN_ITS_PLACE, "is a Git LFS pointer, not the model itself", "Run git lfs pull."),
    "torchscript": (
        RUNS_CODE,
        "is refused: TorchScript runs code when it is opened",
        "Export to ONNX or save the state dict.",
    ),
    "hdf5": (
        UNKNOWN,
        "is an HDF5 file (Keras), which cannot be opened here",
        "Export the model to ONNX, say with tf2onnx.",
    ),
}


def inspect(kind: str | None, content: bytes, display: str, external: Mapping[str, bytes]) -> list[Problem]:
    """What is wrong with the content of a model file.

    ``kind``: what ``sniff_format`` says of it. ``display``: its name in reports. ``external``: of an ONNX model, the
    content of its external data by location. Raises nothing on account of the content; nothing in it is run.
    """
    if kind in REFUSED:
        rule, message, remedy = REFUSED[kind]
        return [Problem(rule=rule, message=f"{display} {message}.", remedy=remedy, path=display)]
    if kind == "onnx":
        from ._onnx import inspect_onnx

        return inspect_onnx(content, display, external)
    if kind == "safetensors":
        from ._safetensors import inspect_safetensors

        return inspect_safetensors(content, display)
    if kind in ("torch-zip", "pickle"):
        from ._torch import inspect_pickle, inspect_torch_zip

        return (inspect_torch_zip if kind == "torch-zip" else inspect_pickle)(content, display)
    from ._other import inspect_other

    return inspect_other(content, display, kind)
