"""``lock import``: entries from the lists of hashes that publishers put beside their models."""

from __future__ import annotations

from pathlib import Path

from ..checks.provenance._digests import file_digests, hash_matches
from ..checks.provenance._lockfile import Artifact
from ..checks.provenance._names import file_name, name_problem
from ..checks.provenance._origin import Statement, with_origin
from ..checks.provenance._published import PublishedFile, read_published
from ..checks.provenance._record import new_artifact
from ..checks.provenance._verify import lock_format
from ..errors import LockError, SettingsError
from ..models._format import sniff_format
from ._add import write
from ._shared import Run, printable
from ._statement import typed_exceptions, typed_signature, typed_source

# What a list of hashes may name beside models; an empty file or an error page is one that replaced a model.
NO_MODELS = ("text", None)


def import_list(run: Run) -> int:
    """List every model that the lists name, after comparing it with its hash; all or none."""
    arguments = run.arguments
    listed = [
        (Path(typed), file)
        for typed in arguments.paths
        for file in read_published(Path(typed), kind=arguments.kind, alg=arguments.algorithm)
    ]
    if len(listed) > 1 and (arguments.source or arguments.signature):
        raise SettingsError("--from and --signature are about one file, and the lists name more; import it alone.")
    entries = [entry for place, file in listed if (entry := _entry(run, place, file)) is not None]
    if not entries:
        raise LockError(f"{', '.join(arguments.paths)}: none of the files that are listed is a model here.")
    return write(run, entries)


def _entry(run: Run, place: Path, file: PublishedFile) -> tuple[Artifact, Path] | None:
    """The entry of one file of the list at ``place``; None if it is no model or, where that is allowed, not here."""
    problem = name_problem(file.file)
    if problem:
        raise LockError(f"{place} lists {file.file!r}, whose name {problem}; such a file cannot be recorded.")
    path = place.parent / file.file
    if not path.exists():
        if run.arguments.ignore_missing:
            print(printable(f"left out: {path} is not here"))
            return None
        raise LockError(f"{place} lists {file.file}, which is not here; fetch it, or use --ignore-missing.")
    _compare(place, path, file)
    kind = sniff_format(path)
    if lock_format(kind) is None and kind in NO_MODELS and file.came_from == "sha256sums":
        print(printable(f"left out: {path} is no model"))
        return None
    name = file_name(path, run.lock_path.parent)
    return with_origin(new_artifact(name, path), path, _statement(run, place, file), run.resolve(run.lock())), path


def _compare(place: Path, path: Path, file: PublishedFile) -> None:
    if file.size is not None and path.stat().st_size != file.size:
        raise LockError(f"{path} has {path.stat().st_size} bytes, {place} lists {file.size}; fetch the file again.")
    if file.alg and file.value and not hash_matches(file.alg, file.value, file_digests(path)):
        raise LockError(
            f"{path} does not have the {file.alg} {file.value} that {place} lists; do not use it, fetch it again."
        )


def _statement(run: Run, place: Path, file: PublishedFile) -> Statement:
    arguments = run.arguments
    source = dict(file.source)
    for key in ("file", "readme"):
        if key in source:
            source[key] = file_name(place, run.lock_path.parent)
    if source and arguments.source:
        raise SettingsError(f"{place} says itself where the file is from; leave --from out.")
    upstream = {"alg": file.alg, "value": file.value, "from": file.came_from} if file.value else None
    return Statement(
        source=source or typed_source(arguments),
        upstream=upstream,
        signature=typed_signature(arguments, run.lock_path),
        allow=typed_exceptions(arguments),
        trust=arguments.trust_on_first_use,
    )
