"""Calls in a project's own code that fetch a model without saying exactly which one."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pytest_backdoor.errors import ModelError
from pytest_backdoor.findings import Problem
from pytest_backdoor.models._format import open_regular
from pytest_backdoor.models.hub import is_commit

from ._code_files import python_files
from ._code_names import UNKNOWN, Arguments, call_arguments, module_names
from ._digests import MIN_PREFIX
from ._sources import unprotected

MAX_BYTES = 4_000_000
TORCH_HASH = re.compile(r"-([a-f0-9]*)\.")  # torch.hub.HASH_REGEX: it looks at the first match only
DOWNLOADS = ("hf_hub_download", "snapshot_download")
MODEL_KEYS = ("pretrained_model_name_or_path", "pretrained_model_or_path", "repo_id", "model_id")
NOT_FETCHING = ("Embedding.from_pretrained", "EmbeddingBag.from_pretrained")  # torch.nn's take a tensor
REMEDIES = {
    "unpinned-revision": "Name the commit: 40 hexadecimal digits in lower case, as a literal or a constant of the same "
    "module.",
    "no-hash-listed": "Have the hash compared: check_hash=True and a file name with -<hash> for torch.hub, file_hash "
    'and hash_algorithm="sha256" for Keras.',
    "weak-or-short-hash": 'Use file_hash with a SHA-256 and hash_algorithm="sha256".',
    "plain-http": "Use an https address of the publisher.",
}


class Fault(NamedTuple):
    """What a call does not say. ``certain``: False if only running the program would tell."""

    rule: str
    text: str
    certain: bool = True


def project_code_problems(folder: Path) -> tuple[int, list[Problem]]:
    """How many Python files of the project in ``folder`` were looked at, and the problems of all of them."""
    files = python_files(folder)
    problems: list[Problem] = []
    for path in files:
        display = path.relative_to(folder).as_posix()
        try:
            with open_regular(path) as stream:
                content = stream.read(MAX_BYTES + 1)
        except ModelError as error:
            problems.append(_unread(display, str(error)))
            continue
        problems.extend(code_problems(content, display, partial(_exists, (folder, path.parent))))
    return len(files), problems


def _exists(folders: Iterable[Path], name: str) -> bool:
    return any((folder / name).exists() for folder in folders)


def code_problems(content: bytes, display: str, exists: Callable[[str], bool]) -> list[Problem]:
    """One problem for each call in a Python module that fetches a model without pinning it or having its hash compared.

    ``exists``: whether a text that may be a path names something in the project. Looks at ``from_pretrained``,
    ``hf_hub_download``, ``snapshot_download``, ``load_state_dict_from_url``, ``torch.hub.load`` and Keras'
    ``get_file``, under whatever name they are imported. ``path`` of a problem is ``file:line``. Where only running the
    program would tell, and for a file that is no Python, ``fails`` is False. Nothing is imported or run.
    """
    if len(content) > MAX_BYTES:
        return [_unread(display, f"it is larger than {MAX_BYTES} bytes")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the code's own style is not the question
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [_unread(display, str(error) or type(error).__name__)]
    names = module_names(tree)
    calls = sorted(
        (node for node in ast.walk(tree) if isinstance(node, ast.Call)), key=lambda node: (node.lineno, node.col_offset)
    )
    return [
        _problem(fault, f"{display}:{call.lineno}", names.dotted(call.func))
        for call in calls
        for fault in _faults(names.dotted(call.func), call_arguments(call, names), exists)
    ]


def _unread(display: str, reason: str) -> Problem:
    return Problem(
        rule="unpinned-revision",
        message=f"{display} cannot be read as Python ({reason}), so what it fetches is not known.",
        remedy="Correct the file.",
        path=display,
        fails=False,
    )


def _problem(fault: Fault, place: str, function: str) -> Problem:
    short = ".".join(function.split(".")[-2:]).lstrip(".?")  # with the class or module that it is called on
    return Problem(
        rule=fault.rule,
        message=f"{place}: {short} {fault.text}.",
        remedy=REMEDIES[fault.rule],
        path=place,
        fails=fault.certain,
    )


def _faults(function: str, arguments: Arguments, exists: Callable[[str], bool]) -> Iterator[Fault]:
    name = function.rpartition(".")[2]
    if name in DOWNLOADS:
        yield from _revision_fault(arguments, certain=True)
    elif name == "from_pretrained" and not function.endswith(NOT_FETCHING):
        yield from _pretrained_faults(arguments, exists)
    elif name == "load_state_dict_from_url":
        yield from _state_dict_faults(arguments)
    elif function == "torch.hub.load":
        yield from _torch_hub_faults(arguments)
    elif name == "get_file" and any(part.endswith("keras") for part in function.split(".")):
        yield from _keras_faults(arguments)


def _revision_fault(arguments: Arguments, *, certain: bool) -> Iterator[Fault]:
    revision = arguments.get("revision")
    if revision is UNKNOWN:
        yield Fault("unpinned-revision", "is given a revision that cannot be told from the code", certain=False)
    elif revision is None:
        text = "names no revision, so it fetches whatever is the newest"
        yield Fault("unpinned-revision", text if certain else f"{text} unless it is a local path", certain=certain)
    elif not (isinstance(revision, str) and is_commit(revision)):
        yield Fault("unpinned-revision", f"names the revision {revision!r}, which is no full commit and may change")


def _pretrained_faults(arguments: Arguments, exists: Callable[[str], bool]) -> Iterator[Fault]:
    keyword = next((key for key in MODEL_KEYS if key in arguments.keywords), MODEL_KEYS[0])
    model = arguments.get(keyword, 0)
    if isinstance(model, str):
        if model.startswith((".", "/", "~", "\\")) or re.match(r"[A-Za-z]:[\\/]", model) or _safe_exists(model, exists):
            return
        yield from _revision_fault(arguments, certain=True)
    else:
        yield from _revision_fault(arguments, certain=False)


def _safe_exists(model: str, exists: Callable[[str], bool]) -> bool:
    try:
        return exists(model)
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _state_dict_faults(arguments: Arguments) -> Iterator[Fault]:
    url, file_name = arguments.get("url", 0), arguments.get("file_name", 5)
    checked = arguments.get("check_hash", 4, default=False)
    yield from _transport_fault(url)
    if checked is UNKNOWN:
        yield Fault("no-hash-listed", "may or may not compare a hash (check_hash cannot be told)", certain=False)
        return
    if not checked:
        yield Fault("no-hash-listed", "compares no hash (check_hash is not set)")
        return
    if file_name is UNKNOWN or (file_name is None and not isinstance(url, str)):
        yield Fault("no-hash-listed", "compares a hash only if the file's name holds one, which cannot be told", False)
        return
    name = str(file_name) if file_name else unquote(urlsplit(url).path).rpartition("/")[2]
    match = TORCH_HASH.search(name)
    if match is None or len(match[1]) < MIN_PREFIX:
        yield Fault("no-hash-listed", f"compares no hash although check_hash is set: the name {name!r} holds none")


def _transport_fault(url: object) -> Iterator[Fault]:
    try:
        reason = unprotected(url) if isinstance(url, str) else None
    except ValueError:  # no address at all
        reason = None
    if reason:
        yield Fault("plain-http", f"names an address that {reason}")


def _torch_hub_faults(arguments: Arguments) -> Iterator[Fault]:
    repo, source = arguments.get("repo_or_dir", 0), arguments.get("source", default="github")
    if source == "local":
        return
    if not isinstance(repo, str) or source is UNKNOWN:
        yield Fault("unpinned-revision", "runs code of a repository that cannot be told from the code", certain=False)
    elif not is_commit(repo.rpartition(":")[2] if ":" in repo else ""):
        yield Fault("unpinned-revision", f"runs code of {repo!r}, which names no full commit and may change")


def _keras_faults(arguments: Arguments) -> Iterator[Fault]:
    file_hash, md5 = arguments.get("file_hash", 4), arguments.get("md5_hash", 3)
    algorithm = arguments.get("hash_algorithm", 6, default="auto")
    yield from _transport_fault(arguments.get("origin", 1))
    if file_hash is UNKNOWN or (file_hash is None and md5 is UNKNOWN):
        yield Fault("no-hash-listed", "is given a hash that cannot be told from the code", certain=False)
    elif not file_hash:
        if md5:
            yield Fault("weak-or-short-hash", "compares an MD5 only")
        else:
            yield Fault("no-hash-listed", "compares no hash (file_hash is not given)")
    elif algorithm is UNKNOWN:
        yield Fault("weak-or-short-hash", "uses a hash algorithm that cannot be told from the code", certain=False)
    elif algorithm != "sha256":
        words = (
            "guesses the algorithm from the hash's length" if algorithm == "auto" else f"compares {algorithm!r} only"
        )
        yield Fault("weak-or-short-hash", words)
    elif not (isinstance(file_hash, str) and re.fullmatch(r"[0-9A-Fa-f]{64}", file_hash)):
        yield Fault("no-hash-listed", "is given a file_hash that is no SHA-256")
