"""What the matrix is made of: groups of models of one task, named in a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ...tasks import TASKS
from .rows import Row, row_of

Kind = Literal["classifier", "detector"]
KINDS: tuple[Kind, ...] = ("classifier", "detector")
LISTS = ("folders", "splits", "files")
MANIFEST, CARD, HEAD = "manifest.json", ".json", "-head"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Models of one task, judged by one detector pack.

    ``folders``: of ONNX files or safetensors, each with a card ``NAME.json`` beside it, or of zoos. ``kind``: whether
    they classify images or detect objects. ``samples``: clean images: a task's name, such as mnist, or a folder or
    ``.npz`` as ``--backdoor-data`` takes it. ``pack``: a detector pack, None for those that are shipped. ``splits``:
    the parts of a zoo that are tested on. ``files``: patterns for the files of a folder, such as ``**/*-head.onnx``.
    ``network``: the architecture family of safetensors whose cards do not tell it. ``note``: a remark for the report.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    kind: Kind = "classifier"
    samples: str | None = None
    pack: str | None = None
    splits: tuple[str, ...] = ("test",)
    files: tuple[str, ...] = ("*",)
    network: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class MatrixModel:
    """One model of a group: its file, its row, and what its card says."""

    name: str
    path: Path
    row: Row
    card: Mapping[str, Any]


def read_groups(path: Path) -> tuple[Group, ...]:
    """The ``[[group]]`` tables of a TOML file. Raises ValueError for one that is not as ``Group`` describes."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("group", [])
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no valid TOML file: {error}.") from error
    groups = tuple(_group(table, path) for table in tables)
    if len({group.name for group in groups}) < len(groups) or not groups:
        raise ValueError(f"{path} must hold one or more [[group]] tables, each with a name of its own.")
    return groups


def _group(table: Mapping[str, Any], path: Path) -> Group:
    known = {field.name for field in fields(Group)}
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    missing, unknown = {"name", "title", "folders"} - set(values), set(values) - known
    single = [name for name in LISTS if isinstance(values.get(name), str)]
    if missing or unknown or single or values.get("kind", "classifier") not in KINDS:
        raise ValueError(
            f"A group of {path} needs a name, a title and folders, and may have {', '.join(sorted(known))}; "
            f"{', '.join(LISTS)} are lists, kind is {' or '.join(KINDS)}."
        )
    return Group(**values)


def find_models(group: Group, root: Path) -> list[MatrixModel]:
    """The models of a group, whose folders are relative to ``root``; a folder that is not there yet has none."""
    found = [model for folder in group.folders for model in _in_folder(root / folder, group)]
    names = [model.name for model in found]
    if len(set(names)) < len(names):
        raise ValueError(f"The folders of the group {group.name} hold several models of one name.")
    return found


def _in_folder(folder: Path, group: Group) -> Iterator[MatrixModel]:
    if (folder / MANIFEST).is_file():
        yield from _in_zoo(folder, group)
        return
    for path in sorted({path for pattern in group.files for path in folder.glob(pattern)}):
        card = _card_of(path)
        if card is None or not _is_meant(path, group):
            continue
        told = json.loads(card.read_text(encoding="utf-8"))
        name = path.relative_to(folder).with_suffix("").as_posix().replace("/", "-")
        yield MatrixModel(name=name, path=path, row=row_of(told), card=told)


def _is_meant(path: Path, group: Group) -> bool:
    """Whether a file is a model of the group: of the same weights in two formats the one that says more."""
    if path.suffix == ".safetensors":
        return not path.with_suffix(".onnx").exists()
    return path.suffix == ".onnx" and not (group.kind == "detector" and path.stem.endswith(HEAD))


def _card_of(path: Path) -> Path | None:
    """The card beside a model's file; a detector's head has that of the detector."""
    names = (path.stem, path.stem.removesuffix(HEAD))
    return next((card for name in names if (card := path.with_name(f"{name}{CARD}")).is_file()), None)


def _in_zoo(folder: Path, group: Group) -> Iterator[MatrixModel]:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for record in manifest["networks"]:
        if record["split"] in group.splits and record["rejected"] is None:
            told = {**record, "input_shape": manifest["input_shape"], "classes": manifest["plan"]["classes"]}
            path = folder / "networks" / f"{record['name']}.safetensors"
            yield MatrixModel(name=f"{folder.name}-{record['name']}", path=path, row=row_of(record), card=told)


def shape_of(group: Group, model: MatrixModel) -> tuple[str, tuple[int, int, int], int]:
    """Architecture family, (C, H, W) and number of classes of a network in safetensors.

    Raises ValueError where neither its card nor its group tell them.
    """
    card = model.card
    family = card.get("family") or card.get("recipe", {}).get("family") or group.network
    if family and "input_shape" in card:
        channels, height, width = card["input_shape"]
        return str(family), (channels, height, width), int(card["classes"])
    if group.samples == "mnist" and family:
        return str(family), (1, 28, 28), 10
    raise ValueError(f"{model.path} cannot be opened: its card tells neither its architecture nor its images.")


def is_task(samples: str) -> bool:
    """Whether samples are those of a task and no path."""
    return samples in TASKS
