"""The report of a paper: one page of every part that has been measured."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_backdoor.files import write_atomically

from .parts import Paper, Values


def result_name(paper: Paper, part: str, *, small: bool) -> str:
    """The stem of a part's files, such as ``badnets-table-2`` or ``badnets-table-2-small``."""
    return f"{paper.name}-{part}{'-small' if small else ''}"


def write_part(paper: Paper, folder: Path, part: str, measured: Values, *, small: bool) -> list[Path]:
    """Write a part's values and its pictures; returns their paths."""
    stem, draw = result_name(paper, part, small=small), paper.find_part(part).draw
    files = {f"{stem}.json": f"{json.dumps(measured, indent=1)}\n".encode()}
    if draw is not None:
        pictures = draw(measured["results"])
        files |= {f"{stem}{suffix and f'-{suffix}'}.png": content for suffix, content in pictures.items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def write_report(paper: Paper, folder: Path, *, small: bool) -> Path:
    """Write the report of all parts in ``folder``, such as ``badnets.md`` or ``badnets-small.md``; returns its path."""
    title = f"# {paper.heading}, reproduced" + (" at the reduced size" if small else "")
    sections = [title, paper.introduction]
    for part in paper.modules:
        path = folder / f"{result_name(paper, part, small=small)}.json"
        if path.exists():
            sections.append(section(paper, part, json.loads(path.read_text(encoding="utf-8")), folder, small=small))
    report = folder / f"{paper.name}{'-small' if small else ''}.md"
    write_atomically(report, ("\n\n".join(sections) + "\n").encode())
    return report


def section(paper: Paper, part: str, measured: Values, folder: Path, *, small: bool) -> str:
    """One part: title, body, pictures, and the command that wrote it."""
    found = paper.find_part(part)
    written = f"Written by `{measured['command']}` ({measured['machine']}, torch {measured['versions']['torch']})."
    body = [f"## {found.title}", found.text(measured["results"]).strip()]
    pictures = [f"![{found.title}]({name})" for name in picture_names(paper, part, folder, small=small)]
    return "\n\n".join([*body, *pictures, written])


def picture_names(paper: Paper, part: str, folder: Path, *, small: bool) -> list[str]:
    """The names of a part's pictures in ``folder``."""
    stem = result_name(paper, part, small=small)
    named = [path for path in folder.glob(f"{stem}*.png") if path.stem == stem or path.stem.startswith(f"{stem}-")]
    return sorted(path.name for path in named if small or not path.stem.startswith(f"{stem}-small"))
