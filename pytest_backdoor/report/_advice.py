"""What to do about a model that did not pass, how to accept it, and what was not looked at."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..findings import Finding, ModelReport, Outcome, Verdict
from ..rules import RULES
from ._evidence import Evidence
from ._words import QUESTIONS, UNSEEN, rank

TRAINING_DATA = "training-data"
WRONG_PACK = (
    "If you know that this is a false alarm, as on a clean model of another architecture or training than the "
    "reference models, build a detector pack for it (docs/detector-packs.md). Until there is one, pyproject.toml can "
    "accept it for this very file, with a reason and a last day. Every report still says what was found."
)
LOOKED_AT = (
    "If you have looked at what was found and know that it does no harm, pyproject.toml can accept it for this very "
    "model file, with a reason and a last day. Every report still says what was found."
)
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A sentence or two, with what can be copied, if anything. ``title``: what it is about; may be empty."""

    text: str
    title: str = ""
    code: str = ""


def first_sentence(text: str) -> str:
    """The first sentence of ``text``, which may be all of it."""
    return _SENTENCE_ENDS.split(text)[0]


def to_do(model: ModelReport) -> Iterator[Advice]:
    """The remedies of what keeps the gate closed, in order, each once."""
    if model.accepted:
        return
    said: set[str] = set()
    for title, remedy in _grouped(pair for finding in _closing(model) for pair in _remedies(finding)):
        # Several checks begin with the same advice.
        new = [sentence for sentence in _SENTENCE_ENDS.split(remedy) if sentence and sentence not in said]
        said.update(new)
        if new:
            yield Advice(title=title, text=" ".join(new))
    if not model.findings:
        yield Advice(text="Scan it again: the run ended before it was reached.", code=model.command or "")
    elif not said:
        yield Advice(text=_nothing_better(model.verdict))


def _grouped(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Titles and texts, those of equal texts as one; texts that are empty are left out."""
    titles: dict[str, list[str]] = {}
    for title, text in pairs:
        if text:
            titles.setdefault(text, []).append(title)
    return ((", ".join(dict.fromkeys(together)), text) for text, together in titles.items())


def _closing(model: ModelReport) -> list[Finding]:
    """The findings that keep the gate closed."""
    if model.verdict is Verdict.UNVERIFIED:
        wanted = [one for one in model.findings if one.behavioural and one.outcome is Outcome.NOT_ASSESSED]
    else:
        wanted = [one for one in model.findings if one.blocks]
    return sorted(wanted, key=lambda one: rank(one.check))


def _remedies(finding: Finding) -> Iterator[tuple[str, str]]:
    blocking = [problem for problem in finding.problems if problem.blocks]
    if blocking:
        yield from ((problem.rule, problem.remedy) for problem in blocking)
    else:
        yield finding.check, finding.remedy


def _nothing_better(verdict: Verdict) -> str:
    if verdict is Verdict.ERROR:
        return "Read the errors: each says what is wrong with the file or the settings. Mend that and scan again."
    return "Get the model from another source, and scan that."


def to_accept(model: ModelReport) -> Iterator[Advice]:
    """How somebody who knows better lets the model pass, and what that costs."""
    if model.accepted or not model.findings:
        return
    if model.verdict is Verdict.UNVERIFIED:
        yield Advice(
            text="Accept that nobody has looked at what the model does, for this model alone, in pyproject.toml (or "
            "for all with --backdoor-allow-unverified):",
            code=_table(model, "allow_unverified = true  # why, and until when"),
        )
    rules = {problem.rule for finding in model.findings for problem in finding.problems if problem.blocks}
    for rule in sorted(rules):
        if RULES[rule].excusable:
            yield Advice(
                title=rule,
                text="The lock file can allow this, with a reason and a last day, after which it fails again. A model "
                "that is listed already takes lock update in place of lock add.",
                code=shlex.join(
                    [
                        "pytest-backdoor",
                        "lock",
                        "add",
                        model.path,
                        "--allow",
                        rule,
                        "--reason",
                        "WHY",
                        "--until",
                        "YYYY-MM-DD",
                    ]
                ),
            )
        else:
            yield Advice(title=rule, text="Nothing can allow this: mend the cause.")
    failed = [one for one in model.findings if one.outcome is Outcome.FAILED and one.blocks and not one.problems]
    for behavioural, advice in ((True, WRONG_PACK), (False, LOOKED_AT)):
        names = [one.check for one in failed if one.behavioural is behavioural]
        if names:
            yield _false_alarm(model, names, advice)
    if model.verdict is Verdict.ERROR:
        yield Advice(text="An error cannot be accepted. Mend its cause, or take the model out of the scan.")


def _false_alarm(model: ModelReport, failed: list[str], advice: str) -> Advice:
    names = " and ".join(failed) if len(failed) < 3 else f"{', '.join(failed[:-1])} and {failed[-1]}"
    digests = _digests(model)
    table = (
        f"\n[[tool.pytest-backdoor.models.accept]]\nchecks = {json.dumps(failed)}\nuntil = YYYY-MM-DD\n"
        f'reason = "WHY"\nsha256 = {json.dumps(digests[0] if len(digests) == 1 else digests)}'
    )
    return Advice(title=names, text=advice, code=_table(model, table))


def _digests(model: ModelReport) -> list[str]:
    """The hashes of the model file and, where its provenance was looked at, of its external data."""
    evidence = [Evidence(finding.evidence) for finding in model.findings]
    files = [entry for found in evidence for entry in found.parts("files") if entry.text("path") != model.path]
    return [model.sha256 or "", *(digest for entry in files if (digest := entry.text("sha256")))]


def _table(model: ModelReport, line: str) -> str:
    return f"[[tool.pytest-backdoor.models]]\npath = {json.dumps(model.path)}\n{line}"


def not_checked(model: ModelReport) -> Iterator[Advice]:
    """Each check that was not made and why, what those that were made left out, and what none can see."""
    if not model.findings:
        yield Advice(title="everything", text="The run ended before this model was reached.")
    told = {advice.text for advice in to_do(model)}
    unmade = [one for one in model.findings if one.outcome in (Outcome.NOT_ASSESSED, Outcome.ERROR)]
    for title, text in _grouped((finding.check, _reason(finding, told)) for finding in unmade):
        yield Advice(title=title, text=text)
    made = {finding.check for finding in model.findings}
    for check in QUESTIONS:
        if model.findings and check not in made:
            yield Advice(title=check, text=_why_not_asked(check))
    yield from _limits(model)
    yield Advice(title="by nature", text=UNSEEN)


def _reason(finding: Finding, told: set[str]) -> str:
    """Why a check was not made, and its remedy unless that is told already."""
    return finding.summary if finding.remedy in told else f"{finding.summary} {finding.remedy}".strip()


def _why_not_asked(check: str) -> str:
    if check == TRAINING_DATA:
        return "No training set was given (--backdoor-train-data). Poisons without a trigger show nowhere else."
    return "The settings leave this check out, or the run ended before it."


def _limits(model: ModelReport) -> Iterator[Advice]:
    """What a check that was made left out."""
    for finding in model.findings:
        evidence = Evidence(finding.evidence)
        if finding.outcome not in (Outcome.PASSED, Outcome.FAILED):
            continue
        left_out = evidence.texts("families_left_out")
        if left_out:
            yield Advice(
                title=f"{finding.check}, other triggers",
                text=f"Not searched: {', '.join(left_out)}. The settings leave these trigger families out, or the "
                "detector pack has no reference scores for them.",
            )
        if evidence.text("images") == "prototypes":
            yield Advice(
                title=f"{finding.check}, real images",
                text="Triggers were sought on made-up images; some hundred clean samples (--backdoor-data) see more.",
            )
