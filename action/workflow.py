"""What GitHub Actions gives a step and takes from it: outputs, the job summary, annotations, the event."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Of one step; a larger one is dropped as a whole, without failing the job.
SUMMARY_BYTES = 1024 * 1024
CUT = "\n\n(cut here: the summary of one step may have 1 MiB; the report files hold everything)\n"


def write_outputs(environment: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Set the step's outputs. A value may hold anything, line breaks and what looks like another output included."""
    with open(environment["GITHUB_OUTPUT"], "a", encoding="utf-8", newline="\n") as file:
        for name, value in outputs.items():
            end = f"end-{secrets.token_hex(16)}"
            file.write(f"{name}<<{end}\n{value}\n{end}\n")


def write_summary(environment: Mapping[str, str], markdown: str) -> None:
    """Append to the job summary; more than it may hold is cut at a line."""
    path = Path(environment["GITHUB_STEP_SUMMARY"])
    present = path.stat().st_size if path.exists() else 0
    room = SUMMARY_BYTES - present - len(CUT.encode())
    encoded = markdown.encode()
    if len(encoded) > room:
        encoded = encoded[: encoded.rfind(b"\n", 0, max(room, 0)) + 1] + CUT.encode()
    with path.open("ab") as file:
        file.write(encoded)


def annotate(level: str, title: str, message: str) -> None:
    """Print an annotation; ``level``: ``error``, ``warning`` or ``notice``."""
    name = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    print(f"::{level} title={name}::{_escaped(message)}", flush=True)


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


@contextmanager
def without_commands() -> Iterator[None]:
    """What is printed meanwhile is text, even where it looks like a workflow command: names in a model are not ours."""
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"\n::{token}::", flush=True)


def is_trusted(environment: Mapping[str, str]) -> bool:
    """Whether what is scanned comes from the repository itself, not from a fork of it.

    Nothing is uploaded for a fork: its token may only read, and the reports were made by code of somebody else. An
    event that cannot be read is not trusted.
    """
    repository = environment.get("GITHUB_REPOSITORY", "")
    try:
        event = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        heads = list(_heads(event))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    # Of a fork that was deleted, there is no repository.
    return bool(repository) and all(head == repository for head in heads)


def _heads(event: Mapping[str, Any]) -> Iterator[str | None]:
    """The full name of the repository that each part of the event says the code is from."""
    pull_request = event.get("pull_request")
    if pull_request is not None:
        yield (pull_request["head"].get("repo") or {}).get("full_name")
    run = event.get("workflow_run")
    if run is not None:
        yield (run.get("head_repository") or {}).get("full_name")
