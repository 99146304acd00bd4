"""Files beside a model that hold its hash: DVC's ``.dvc`` and a README in the style of the Caffe Model Zoo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pytest_backdoor.errors import LockError

from ._digests import normalised_hash
from ._published import PublishedFile
from ._yaml import read_table


def parse_dvc(text: str, path: Path) -> list[PublishedFile]:
    """The outputs that a ``.dvc`` file tracks, with their MD5; raises LockError if one has none or is a folder."""
    table = read_table(text, path)
    outputs = table.get("outs")
    if not isinstance(outputs, list) or not outputs:
        raise LockError(f"{path} tracks no output ('outs'); name the right file.")
    if table.get("wdir", ".") != ".":
        raise LockError(f"{path} names another working folder ('wdir'); import lists beside their files only.")
    return [_output(output, path) for output in outputs]


def _output(output: Any, path: Path) -> PublishedFile:
    name = output.get("path") if isinstance(output, dict) else None
    if not isinstance(name, str):
        raise LockError(f"{path} has an output without a path; correct it.")
    digits, size = output.get("md5"), output.get("size")
    if not isinstance(digits, str):
        raise LockError(
            f"{path} lists no MD5 of {name}; an ETag or checksum of a storage service is no hash of a file."
        )
    if output.get("hash", "md5") != "md5":
        raise LockError(f"{path} says that the MD5 of {name} is another hash ('hash'); correct it.")
    if digits.endswith(".dir"):
        raise LockError(f"{path} tracks the folder {name}; track the model file itself.")
    if size is not None and not (isinstance(size, str) and re.fullmatch(r"[0-9]{1,18}", size)):
        raise LockError(f"{path} lists a size of {name} that is no number; correct it.")
    return PublishedFile(
        file=name,
        came_from="dvc",
        alg="md5",
        value=normalised_hash("md5", digits),
        size=int(size) if size is not None else None,
        source={"type": "dvc", "file": path.name},
    )


def parse_caffe(text: str, path: Path) -> list[PublishedFile]:
    """The file that the front matter of a Caffe README describes, without a hash where it lists none.

    The keys are those that Caffe's ``download_model_binary.py`` reads: ``caffemodel``, ``caffemodel_url``, ``sha1``.
    """
    lines = text.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        raise LockError(f"{path} does not begin with YAML between two lines '---'; name the right file.")
    table = read_table("\n".join(lines[1 : lines.index("---", 1)]) + "\n", path)
    values = {key: table.get(key, "") for key in ("caffemodel", "caffemodel_url", "sha1")}
    if not all(isinstance(value, str) for value in values.values()):
        raise LockError(f"{path} has a value of {', '.join(values)} that is no text; correct it.")
    if not values["caffemodel"]:
        raise LockError(f"{path} does not name the model file ('caffemodel'); add the key.")
    url = {"url": values["caffemodel_url"]} if values["caffemodel_url"] else {}
    return [
        PublishedFile(
            file=values["caffemodel"],
            came_from="readme-yaml",
            alg="sha1" if values["sha1"] else None,
            value=normalised_hash("sha1", values["sha1"]) if values["sha1"] else None,
            source={"type": "caffe", "readme": path.name} | url,
        )
    ]
