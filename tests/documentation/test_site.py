"""The documentation builds strictly: no page that is left out, no link or anchor that leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from page_blocks import ROOT

from tools.external_links import external_links


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="the documentation is built with the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.add(value or "")
            elif name in ("href", "src"):
                (self.targets if tag == "a" else self.loaded).append(value or "")


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {address for path in site.rglob("*.html") for address in _Page(path.read_text(encoding="utf-8")).loaded}
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []


def test_every_file_and_anchor_that_a_page_links_to_is_there(site):
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    broken = [
        f"{path.relative_to(site)}: {target}"
        for path, page in pages.items()
        for target in page.targets
        if not _leads_somewhere(path, target, pages)
    ]
    assert broken == []


def _leads_somewhere(path: Path, target: str, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return True
    aim = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    aim = aim / "index.html" if aim.is_dir() else aim
    if not aim.is_file():
        return False
    return not parts.fragment or aim not in pages or unquote(parts.fragment) in pages[aim].ids


README_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)")


def test_the_links_of_the_readme_lead_to_files_and_headings():
    for target, anchor in README_LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{target}#{anchor}"


def test_links_to_elsewhere_are_found():
    assert any(address.startswith("https://www.kaggle.com/") for address in external_links())
