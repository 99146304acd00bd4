"""What the Hub's cache records about its files: ``models--owner--repo/{refs,snapshots,blobs,trees}``."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from ._file import Origin, Upstream
from ._name import COMMIT

MAX_TREE_BYTES = 64 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")
SHA1 = re.compile(r"[0-9a-f]{40}")


def split_snapshot(path: Path, file: str) -> tuple[Path, str] | None:
    """The repository's folder in the cache and the commit, of ``.../snapshots/<commit>/<file>``; else None."""
    depth = len(file.split("/"))
    parents = Path(os.path.abspath(path)).parents
    if len(parents) < depth + 2:
        return None
    snapshot = parents[depth - 1]
    if snapshot.parent.name != "snapshots" or not COMMIT.fullmatch(snapshot.name):
        return None
    return snapshot.parent.parent, snapshot.name


def recorded_upstream(path: Path, file: str) -> Upstream | None:
    """The hash that the cache recorded when ``file`` was downloaded to ``path``; None if it did not.

    From the listing of the commit, else from the name of the file that the snapshot links to. Reads no network.
    """
    place = split_snapshot(path, file)
    if place is None:
        return None
    folder, commit = place
    return _from_tree(folder / "trees" / f"{commit}.json", file, commit) or _from_blob(path, folder / "blobs", commit)


def _from_tree(tree: Path, file: str, commit: str) -> Upstream | None:
    try:
        if tree.stat().st_size > MAX_TREE_BYTES:
            return None
        listed: Any = json.loads(tree.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    entry = _entry(listed, file)
    # The git blob of a file in LFS is its pointer, whose hash says nothing of the content to compare.
    key, alg, form = ("lfs_sha256", "sha256", SHA256) if "lfs_sha256" in entry else ("blob_id", "git-blob-sha1", SHA1)
    value = entry.get(key)
    if not isinstance(value, str) or not form.fullmatch(value):
        return None
    return Upstream(commit=commit, alg=alg, value=value, origin=Origin.CACHE_TREE)


def _entry(listed: Any, file: str) -> dict[str, Any]:
    files = listed.get("files") if isinstance(listed, dict) else None
    entry = files.get(file) if isinstance(files, dict) else None
    return entry if isinstance(entry, dict) else {}


def _from_blob(path: Path, blobs: Path, commit: str) -> Upstream | None:
    """From the link's own target, one hop and no further.

    In newer caches that target is a link too, into a store shared by all repositories, where names are hashes of
    another kind that look just like a SHA-256.
    """
    try:
        target = Path(os.readlink(path))
    except OSError:  # no link: copied where links are not supported
        return None
    target = Path(os.path.abspath(path)).parent / target
    if os.path.realpath(target.parent) != os.path.realpath(blobs):
        return None
    for alg, form in (("sha256", SHA256), ("git-blob-sha1", SHA1)):
        if form.fullmatch(target.name):
            return Upstream(commit=commit, alg=alg, value=target.name, origin=Origin.CACHE_BLOB)
    return None
