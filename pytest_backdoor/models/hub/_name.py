"""``hf://owner/repo@revision/file``, taken apart in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

HUB_PREFIX = "hf://"
DEFAULT_REVISION = "main"
# Two kinds of revision have slashes of their own; in any other a slash is written %2F, as the Hub's own names have it.
_SPECIAL = r"refs/pr/[0-9]+|refs/convert/[A-Za-z0-9_.-]+"
_NAME = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)"
    rf"(?:@(?P<revision>{_SPECIAL}|[^/@\s]+))?/(?P<file>.+)",
)
# The Hub's client takes what is shorter or in upper case for the name of a branch.
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class HubName:
    """A file of a repository. ``revision``: as it is meant (``%2F`` undone), None if the name has none."""

    repo: str
    file: str
    revision: str | None = None

    @property
    def requested(self) -> str:
        """The revision that is asked for."""
        return self.revision or DEFAULT_REVISION

    @property
    def pinned(self) -> bool:
        """Whether the name can only ever mean one content: its revision is a whole commit."""
        return is_commit(self.requested)

    def at(self, revision: str) -> HubName:
        """The same file at another revision."""
        return HubName(repo=self.repo, file=self.file, revision=revision)

    def __str__(self) -> str:
        revision = self.revision or ""
        written = revision if re.fullmatch(_SPECIAL, revision) else quote(revision, safe="")
        return f"{HUB_PREFIX}{self.repo}{'@' + written if written else ''}/{self.file}"


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit: 40 lower-case hexadecimal digits, nothing shorter."""
    return COMMIT.fullmatch(revision) is not None


def parse_hub_name(name: str) -> HubName | None:
    """The parts of ``hf://owner/repo@revision/file``; None if ``name`` is not of that form or leads elsewhere."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    revision = None if match["revision"] is None else unquote(match["revision"])
    paths = [match["repo"], match["file"], *([] if revision is None else [revision])]
    if not all(map(_is_plain_path, paths)):
        return None
    return HubName(repo=match["repo"], file=match["file"], revision=revision)


def _is_plain_path(path: str) -> bool:
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not {"", ".", ".."} & set(parts)
