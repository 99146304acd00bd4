"""Compare what the action gave in the self-test with what the case in selftest.yml wants."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

SCANNED = ("0", "1")


def differences(given: Mapping[str, str]) -> list[str]:
    """A sentence for everything that is not as it should be."""
    found = [
        f"{name} is {given[name]!r}, not {given[f'WANTED_{name}']!r}."
        for name in ("OUTCOME", "VERDICT", "EXIT_CODE")
        if given[name] != given[f"WANTED_{name}"]
    ]
    if (given["VERDICT"] == "suspicious") != (given["FINDINGS"] not in ("", "0")):
        found.append(f"FINDINGS is {given['FINDINGS']!r}.")
    scanned = given["WANTED_EXIT_CODE"] in SCANNED
    found += [f"{name} is {given[name]!r}." for name in ("JSON", "SARIF", "HTML") if bool(given[name]) != scanned]
    if scanned and not found:
        models = json.loads(Path(given["JSON"]).read_text(encoding="utf-8"))["models"]
        if given["VERDICT"] not in [model["verdict"] for model in models]:
            found.append(f"No model of {given['JSON']} is {given['VERDICT']}.")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(differences(os.environ)))
