"""What is known about a file that was fetched from the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ._name import HubName, is_commit


class Origin(StrEnum):
    """Who said which hash a file has.

    The records of the cache lie beside the files: they show that a file was damaged or exchanged carelessly, not that
    nobody who may write to the cache changed both.
    """

    HUB = "hub"
    CACHE_TREE = "cache-tree"
    CACHE_BLOB = "cache-blob"


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The hash that is listed for a file.

    ``commit``: 40 hexadecimal digits. ``alg``: ``sha256`` (of the content, for files in LFS or Xet) or
    ``git-blob-sha1`` (for all others). ``value``: lower-case hexadecimal digits. ``size``: bytes, None if not recorded.
    """

    commit: str
    alg: str
    value: str
    size: int | None = None
    origin: Origin = Origin.HUB

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Upstream:
        """What ``dataclasses.asdict`` gave, back from JSON."""
        return cls(**{**values, "origin": Origin(values["origin"])})


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a Hugging Face repository in the local cache.

    ``requested``: the revision that was asked for. ``commit``: the one it meant, None if the cache does not tell.
    ``upstream``: the hash listed for it, None if nobody could be asked and nothing was recorded. ``endpoint``: the
    address of the Hub. ``external``: the files that an ONNX model keeps its weights in.
    """

    path: Path
    repo: str
    file: str
    requested: str
    commit: str | None = None
    upstream: Upstream | None = None
    endpoint: str = ""
    external: tuple[HubFile, ...] = ()

    @property
    def name(self) -> HubName:
        """The name by which it was asked for."""
        return HubName(repo=self.repo, file=self.file, revision=self.requested)

    @property
    def pinned(self) -> bool:
        """Whether a whole commit was asked for."""
        return is_commit(self.requested)

    def files(self) -> Iterator[HubFile]:
        """The file itself, then its external data."""
        yield self
        yield from self.external

    def to_json(self) -> dict[str, Any]:
        """The file as JSON values."""
        return {
            **asdict(self),
            "path": str(self.path),
            "external": [file.to_json() for file in self.external],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HubFile:
        """The file that ``to_json`` wrote."""
        upstream = values["upstream"]
        return cls(
            **{
                **values,
                "path": Path(values["path"]),
                "upstream": None if upstream is None else Upstream.from_json(upstream),
                "external": tuple(cls.from_json(file) for file in values["external"]),
            }
        )
