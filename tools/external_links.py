"""``python -m tools.external_links``: the addresses that the documentation names; with ``--check`` whether they answer.

Links within the documentation are checked by ``mkdocs build --strict``.
"""

from __future__ import annotations

import argparse
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((https?://[^)\s]+)\)|<(https?://[^>\s]+)>")
SECONDS, TRIES, AT_ONCE = 20, 3, 8
# Some sites answer programs with these, though the page is there.
TAKEN_FOR_A_ROBOT = (401, 403, 405, 406, 429)


def external_links() -> dict[str, list[str]]:
    """Every address that a page links to, with the pages that do."""
    found: dict[str, list[str]] = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for match in LINK.finditer(page.read_text(encoding="utf-8")):
            found.setdefault(match[1] or match[2], []).append(page.relative_to(ROOT).as_posix())
    return found


def problem(address: str) -> str:
    """Why an address does not answer, empty if it does; it is asked up to three times."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check of documentation)"})
    said = ""
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):
                return ""
        except urllib.error.HTTPError as error:
            if error.code in TAKEN_FOR_A_ROBOT:
                return ""
            said = f"answers {error.code}"
        except OSError as error:
            said = str(error)
    return said


def main() -> int:
    """List the addresses, or ask them; 1 if one does not answer."""
    parser = argparse.ArgumentParser(prog="python -m tools.external_links", description=__doc__)
    parser.add_argument("--check", action="store_true", help="ask every address")
    links = external_links()
    if not parser.parse_args().check:
        print("\n".join(sorted(links)))
        return 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        problems = dict(zip(links, pool.map(problem, links), strict=True))
    for address, said in problems.items():
        if said:
            print(f"{address} {said} ({', '.join(links[address])})")
    return int(any(problems.values()))


if __name__ == "__main__":
    sys.exit(main())
