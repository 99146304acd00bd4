"""The warm parent of a run's scanning processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..scanning._processes import ForkServer

SERVER_KEY = pytest.StashKey["ForkServer"]()


def fork_server_of(config: pytest.Config) -> ForkServer:
    """The run's own, made at its first scan and closed at the run's end; each worker of pytest-xdist has one."""
    from ..scanning._processes import ForkServer

    if SERVER_KEY not in config.stash:
        config.stash[SERVER_KEY] = ForkServer()
        config.add_cleanup(config.stash[SERVER_KEY].close)
    return config.stash[SERVER_KEY]
