"""Everything that a model's entry in the lock file asks for, judged in one place for the check and the commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pytest_backdoor.findings import Problem

from ._claims import claim_problems
from ._digests import Digests
from ._exceptions import excused
from ._lockfile import Artifact, Lock
from ._verify import Verification


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the answer depends on beside the files.

    ``today``: the day that exceptions must reach. ``hub_endpoint``: the value of ``HF_ENDPOINT``, empty for the usual
    one.
    """

    today: date
    hub_endpoint: str = ""


def entry_problems(
    verification: Verification,
    lock: Lock,
    digests: Digests,
    circumstances: Circumstances,
    *,
    display: str | None = None,
    found: Iterable[Problem] = (),
) -> list[Problem]:
    """All rules that a model breaks, those that its entry or the policy allows marked so.

    ``verification``: of the files against the entry. ``digests``: of the model file. ``display``: how reports name the
    model, if not as the lock file does. ``found``: what was found without the entry. Raises what ``digests`` raises.
    """
    name = display or verification.name
    artifact = verification.artifact
    gone = any(problem.rule == "missing-file" for problem in verification.problems)
    # The entry's own sentence says what was expected in the place of a file that is not there.
    problems = [problem for problem in found if not (gone and problem.rule == "missing-file")]
    problems += verification.problems
    if artifact is None:
        return _distinct(problems)
    problems = excused(problems, artifact, lock, circumstances.today)
    if verification.files[0].status == "missing":
        return _distinct(problems)
    problems += claim_problems(
        artifact,
        lock,
        digests,
        circumstances.today,
        display=name,
        hub_endpoint=circumstances.hub_endpoint,
    )
    return _distinct([*problems, *_signature_problems(artifact, lock, verification)])


def _signature_problems(artifact: Artifact, lock: Lock, verification: Verification) -> list[Problem]:
    if "signature" not in artifact.claims:
        return []
    from .signatures import signature_problems

    files = {state.path: state.sha256 for state in verification.files if state.sha256 is not None}
    return signature_problems(artifact.claims["signature"], folder=lock.folder, files=files)


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
