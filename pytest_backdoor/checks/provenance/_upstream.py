"""What the Hugging Face Hub states about a file: the commit behind a revision and the file's hash."""

from __future__ import annotations

from typing import NamedTuple

from pytest_backdoor.errors import LockError
from pytest_backdoor.models.hub import is_commit, listed_hash

from ._sources import unprotected


class Upstream(NamedTuple):
    """``commit``: 40 hexadecimal digits. ``alg``: ``sha256`` of a file in LFS or Xet, else ``git-blob-sha1``."""

    commit: str
    alg: str
    value: str

    @property
    def came_from(self) -> str:
        """The value of ``from`` in the lock file's ``upstream``."""
        return "hf-lfs" if self.alg == "sha256" else "hf-git-blob"


def resolve_upstream(repo: str, file: str, revision: str, *, allow_http: bool = False) -> Upstream:
    """Ask the Hub which commit ``revision`` of ``repo`` is and which hash ``file`` has there; two small requests.

    ``allow_http``: accept a Hub that is reached without TLS (``HF_ENDPOINT``). Raises LockError if the Hub cannot be
    reached, has no such revision or file, or answers something that is no commit or hash.
    """
    from huggingface_hub.hf_api import HfApi, RepoFile

    name = f"hf://{repo}@{revision}/{file}"
    api = HfApi()
    reason = None if allow_http else unprotected(api.endpoint)
    if reason:
        raise LockError(f"The Hub {reason} ({api.endpoint}); correct the variable HF_ENDPOINT.")
    try:
        commit = api.model_info(repo, revision=revision).sha or ""
        found = api.get_paths_info(repo, [file], revision=commit) if is_commit(commit) else []
    except Exception as error:  # the client raises many types, those of its HTTP library among them
        text = str(error).strip() or type(error).__name__
        raise LockError(f"The Hub gave no answer about {name}: {text.splitlines()[0]}") from error
    if not is_commit(commit) or (is_commit(revision) and commit != revision):
        raise LockError(f"The Hub's answer about {name} holds no full commit or another one; try again later.")
    match = next((entry for entry in found if isinstance(entry, RepoFile) and entry.path == file), None)
    if match is None:
        raise LockError(f"The Hub has no file {name}; correct the name or the revision.")
    listed = listed_hash(match)
    if listed is None:
        raise LockError(f"The Hub's answer about {name} holds no usable hash; try again later.")
    return Upstream(commit, *listed)
