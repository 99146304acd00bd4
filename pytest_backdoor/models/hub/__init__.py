"""Files of Hugging Face repositories: their names, fetching them, and which hash the Hub lists for each."""

from __future__ import annotations

from ._client import listed_hash
from ._fetch import fetch
from ._file import HubFile, Origin, Upstream
from ._name import HUB_PREFIX, HubName, is_commit, parse_hub_name

__all__ = [
    "HUB_PREFIX",
    "HubFile",
    "HubName",
    "Origin",
    "Upstream",
    "fetch",
    "is_commit",
    "listed_hash",
    "parse_hub_name",
]
