"""A Hub on this machine and a cache of its own, for runs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import PROXIES, HubServer, client_environment, make_tls, serving


class HubProject:
    """A user's repository whose processes reach the Hub ``server`` only. ``cache``: where they keep its files."""

    def __init__(self, project: Any, server: HubServer, home: Path) -> None:
        self.project = project
        self.server = server
        self.cache = home / "hub"

    def scan(self, name: str) -> pytest.RunResult:
        return self.project.scan_apart(name, "--backdoor-checks=provenance", "--backdoor-report=report.json")

    def finding(self, name: str) -> dict[str, Any]:
        """What the provenance check says of a model, in a run of its own."""
        self.scan(name)
        return self.project.findings()[f"{name}::provenance"]

    def fetch(self, name: str) -> None:
        """Put a model into the cache, as a first scan would."""
        code = "import sys; from pytest_backdoor.models.hub import fetch; fetch(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, name], check=True, capture_output=True)

    def lock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "CI"}
        code = "import sys; from pytest_backdoor.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "lock", *arguments]
        return subprocess.run(
            command, cwd=self.project.path, env=environment, capture_output=True, text=True, check=False
        )

    def blobs(self) -> list[Path]:
        return sorted(self.cache.glob("models--*/blobs/*"))


@pytest.fixture(scope="session")
def hub_tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def online(project, tmp_path_factory, hub_tls, monkeypatch) -> Iterator[HubProject]:
    """A repository with a Hub that is reached by HTTPS, as the real one."""
    tls, trusted = hub_tls
    home = tmp_path_factory.mktemp("hub")
    with serving(HubServer(), tls) as server:
        for name in PROXIES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in client_environment(server.address, home, trusted).items():
            monkeypatch.setenv(name, value)
        yield HubProject(project, server, home)
