"""What every format says of one check: the same words, whatever they are rendered as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..findings import Finding, ModelReport, Outcome, Problem, Verdict
from ..rules import RULES
from ._charts import BarChart, Gauge, bar_chart, gauge
from ._evidence import Evidence
from ._pictures import Picture, drawing_of, pictures_of
from ._words import OUTCOMES, OUTCOMES_WORST_FIRST, number, plural, question, rank

MOST_SUSPECTS = 10
MATCHING = ("", "ok", "match", "matches")


@dataclass(frozen=True, kw_only=True)
class CheckView:
    """One finding, ready to be shown.

    ``facts``: labels and texts. ``sure``: sentences on how sure it is. ``suspects``: rows of a training set's most
    suspicious images: image, label, nearest class. ``prominent``: it says why the gate is closed, what was accepted, or
    what was found but not judged, and no other says it.
    """

    finding: Finding
    question: str
    outcome: str
    facts: tuple[tuple[str, str], ...]
    sure: tuple[str, ...]
    gauge: Gauge | None
    chart: BarChart | None
    pictures: tuple[Picture, ...]
    drawing: tuple[str, ...]
    problems: tuple[ProblemView, ...]
    suspects: tuple[tuple[str, str, str], ...]
    prominent: bool


@dataclass(frozen=True, kw_only=True)
class ProblemView:
    """One broken rule. ``state``: whether it fails, is allowed, or is said for the reader's information."""

    problem: Problem
    title: str
    state: str


def check_views(model: ModelReport) -> tuple[CheckView, ...]:
    """The worst first, and of those the one that shows most."""
    ordered = sorted(
        model.findings,
        key=lambda one: (OUTCOMES_WORST_FIRST.index(one.outcome), not one.blocks, rank(one.check), one.check),
    )
    # An error beside a failure, as of a file that is refused, and the same error again are no news.
    reason = {Verdict.SUSPICIOUS: Outcome.FAILED, Verdict.ERROR: Outcome.ERROR}.get(model.verdict)
    said: set[str] = set()
    views = []
    for finding in ordered:
        news = finding.outcome is Outcome.FAILED or finding.summary not in said
        tells = finding.outcome is reason and (finding.blocks or model.accepted)
        tells |= model.verdict is Verdict.UNVERIFIED and found_unjudged(finding)
        views.append(_view(finding, prominent=tells and news))
        said.add(finding.summary)
    return tuple(views)


def found_unjudged(finding: Finding) -> bool:
    """Whether a check of behaviour measured something that there is nothing to compare with."""
    return finding.behavioural and finding.outcome is Outcome.NOT_ASSESSED and finding.score is not None


def _view(finding: Finding, *, prominent: bool) -> CheckView:
    evidence = Evidence(finding.evidence)
    return CheckView(
        finding=finding,
        question=question(finding.check),
        outcome=OUTCOMES[finding.outcome] + ("" if finding.accepted is None else ", accepted"),
        facts=tuple(_facts(finding, evidence)),
        sure=tuple(_sure(finding)),
        gauge=gauge(finding),
        chart=bar_chart(finding),
        pictures=pictures_of(finding),
        drawing=tuple(drawing_of(finding)),
        problems=tuple(_problem(problem) for problem in finding.problems),
        suspects=tuple(_suspects(evidence)),
        prominent=prominent,
    )


def _problem(problem: Problem) -> ProblemView:
    excused = f"allowed, {problem.allowed}" if problem.allowed else "for your information"
    state = "fails" if problem.blocks else excused
    return ProblemView(problem=problem, title=RULES[problem.rule].title, state=state)


def target_of(finding: Finding) -> str | None:
    """The class that inputs are turned into, by name; None where the finding names none."""
    return Evidence(finding.evidence).text("target_name")


def _facts(finding: Finding, evidence: Evidence) -> Iterator[tuple[str, str]]:
    if finding.accepted is not None:
        yield "accepted", finding.accepted
    target = evidence.text("target_name")
    if target is not None:
        yield "target class" if finding.outcome is Outcome.FAILED else "comes nearest", target
    elif evidence.has("target_name"):
        yield "target class", "no single class: images leave theirs"
    family, place = evidence.text("family_meaning"), evidence.text("where") or evidence.text("place")
    if family or place:
        yield "trigger", ": ".join(part for part in (family, place) if part)
    flipped, of = evidence.number("flipped"), evidence.number("flipped_of")
    if flipped is not None and of is not None:
        yield "success", f"{flipped:.0%} of {of:.0f} held-out images ({SOURCES.get(evidence.text('images') or '', '')})"
    source = evidence.text("source_name")
    if source is not None:
        yield "source class", f"{source}: the class of which most images are turned"
    detected = evidence.part("detections")
    turned, lost, objects = (detected.number(name) for name in ("turned", "lost", "objects"))
    if turned is not None and lost is not None and objects is not None:
        yield "whole detector", f"mistakes {turned:.0%} of {objects:.0f} objects and no longer finds {lost:.0%}"
    for entry in evidence.parts("files"):
        status = entry.text("status") or ""
        if status not in MATCHING:
            yield "file", f"{entry.text('path') or 'the file'}: {status}"
    index = evidence.number("anomaly_index")
    if index is not None:
        yield "anomaly index", f"{index:.1f} (of Neural Cleanse; shown, not judged by)"
    if finding.seed is not None:
        yield "seed", str(finding.seed)
    yield "time", f"{finding.seconds:.1f} s"


SOURCES = {
    "samples": "clean samples",
    "prototypes": "made-up images of the detector pack, as no clean samples were given",
    "stand-ins": "images made from the model alone",
    "photographs": "objects on photographs",
}


def _sure(finding: Finding) -> Iterator[str]:
    """Score, threshold and false-positive rate in sentences; nothing for a check without a scale."""
    shown = gauge(finding)
    if shown is None:
        if finding.score is not None:
            yield f"Its score is {number(finding.score)}."
        if finding.p_value is not None:
            yield f"p = {finding.p_value:.2g}."
        return
    reference = shown.reference
    models = "clean reference models" if reference.models is None else plural(reference.models, "clean reference model")
    yield (
        f"The score is {number(shown.score)}. {models} score {number(reference.lowest)} to "
        f"{number(reference.highest)}, half of them below {number(reference.median)}"
        + ("." if reference.threshold is None else f"; the check fails above {number(reference.threshold)}.")
    )
    if finding.p_value is not None and reference.significance is not None:
        yield f"p = {finding.p_value:.2g}; the check fails at {reference.significance:.2g} or less."


def _suspects(evidence: Evidence) -> Iterator[tuple[str, str, str]]:
    for entry in evidence.parts("most_suspicious")[:MOST_SUSPECTS]:
        yield entry.text("image") or "", entry.text("label") or "", entry.text("nearest") or ""
