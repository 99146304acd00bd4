"""The last step: fail if the gate must stay closed, after the reports are out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inputs import kept_inputs
from workflow import annotate

MEANINGS = {
    1: "a model did not pass, or another test failed",
    2: "the run was interrupted",
    3: "pytest met an internal error",
    4: "a path, option or setting is wrong; nothing was scanned",
    5: "no check ran",
}
LOOKED_AT = ("clean", "suspicious", "unverified")
FAILURE = 1


def conclude(environment: Mapping[str, str]) -> int:
    """The exit status of the whole action: 0 only if a scan ran and its result is accepted.

    ``fail-on: never`` accepts whatever was found in the models, but not that they could not be looked at.
    """
    fail_on = kept_inputs(Path(environment["FOLDER"])).fail_on
    code, verdict = environment.get("EXIT_CODE", ""), environment.get("VERDICT", "")
    if not code.lstrip("-").isdigit():
        annotate("error", "Backdoor scan", "The scan left no result, so the gate stays closed.")
        return FAILURE
    number = int(code)
    if number == 0 and verdict not in ("error", ""):
        accepted = ", which the settings accept" if verdict == "suspicious" else ""
        print(f"The gate is open: {verdict}{accepted}.")
        return 0
    meaning = MEANINGS.get(number, f"pytest ended with status {number}") if number else "its report cannot be read"
    if number == 1 and fail_on == "never" and verdict in LOOKED_AT:
        print(f"Not failing, as fail-on is never: {verdict}; {meaning}.")
        return 0
    annotate("error", f"Backdoor scan: {verdict or 'error'}", f"The gate is closed: {meaning}.")
    return FAILURE
