"""Reports as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..findings import WORST_FIRST, Finding, ModelReport, Outcome
from ..rules import RULES
from ._charts import reference_of
from ._evidence import Evidence
from ._strings import one_line, visible

WIDTH = 100
SUSPECTS = 5
MARKS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "FAILED",
    Outcome.NOT_ASSESSED: "not assessed",
    Outcome.ERROR: "ERROR",
}


def short_reason(finding: Finding) -> str:
    """Why a finding is as it is, and what to do, in one line."""
    return _no_command(one_line(" ".join(f"{finding.summary} {finding.remedy}".split()))) or finding.outcome.value


def accepted_reason(finding: Finding) -> str:
    """What a finding says that is accepted, and until when and why, in one line."""
    return _no_command(one_line(f"{finding.summary} Accepted {finding.accepted}"))


def reasons(findings: Iterable[Finding]) -> list[str]:
    """One line for each reason of ``short_reason``, behind the checks that share it."""
    return _shared((finding.check, short_reason(finding)) for finding in findings)


def _shared(reasons: Iterable[tuple[str, str]]) -> list[str]:
    checks: dict[str, list[str]] = {}
    for check, reason in reasons:
        checks.setdefault(reason, []).append(one_line(check))
    return [f"{', '.join(names)}: {reason}" for reason, names in checks.items()]


def explain(model: str, finding: Finding, again: str) -> str:
    """What a failed check found, how sure that is and what to do next; ``again`` is the command that repeats it."""
    several = sum(problem.blocks for problem in finding.problems) > 1
    evidence = Evidence(finding.evidence)
    lines = [*_wrap(_several(model, finding) if several else finding.summary, WIDTH), ""]
    lines += _entry("model", model)
    lines += _entry("check", f"{finding.check}, {finding.seconds:.1f} s")
    lines += _score(finding)
    lines += _files(evidence)
    lines += _trigger(evidence)
    lines += _suspects(evidence)
    lines += _problems(finding)
    if finding.remedy and not several:
        lines += _entry("what next", finding.remedy)
    lines += _entry("again", again, wrap=False)
    return "\n".join(lines)


def _wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    # Paths and commands stay whole, to be copied.
    lines = textwrap.wrap(
        visible(text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [_no_command(line) for line in lines]


def _no_command(line: str) -> str:
    """``line`` so that it is no command to the runner of GitHub Actions, which obeys lines such as ``::error::``."""
    return line.replace("::", ": :", 1) if line.lstrip().startswith("::") else line


def _entry(label: str, text: str, *, wrap: bool = True) -> list[str]:
    parts = _wrap(text, WIDTH - 13) if wrap else [_no_command(one_line(text))]
    return [f"  {label if number == 0 else '':<11}{part}" for number, part in enumerate(parts)]


def _score(finding: Finding) -> list[str]:
    if finding.score is None:
        return []
    reference = reference_of(finding)
    if reference is None:
        return _entry("score", f"{finding.score:.2f}")
    models = "" if reference.models is None else f"{reference.models} "
    lines = _entry(
        "score",
        f"{finding.score:.2f}; {models}clean models score {reference.lowest:.2f} to {reference.highest:.2f}, half of "
        f"them below {reference.median:.2f}",
    )
    if finding.p_value is not None and reference.significance is not None:
        lines += _entry(
            "how sure",
            f"p = {finding.p_value:.2g}: at most that share of clean models, if like the reference ones, scores "
            f"as high; the gate fails at {reference.significance:.2g} or less",
        )
    return lines


def _several(model: str, finding: Finding) -> str:
    rules = dict.fromkeys(problem.rule for problem in finding.problems if problem.blocks)
    return f"{model} breaks {len(rules)} rule{'s' if len(rules) > 1 else ''}: {', '.join(rules)}."


def _problems(finding: Finding) -> Iterator[str]:
    """Each broken rule, those that fail first; with message and remedy where the finding is not of that one alone."""
    failing = [problem for problem in finding.problems if problem.blocks]
    if len(failing) == 1:
        yield from _entry("rule", f"{failing[0].rule}: {RULES[failing[0].rule].title}")
    else:
        for problem in failing:
            yield from _entry("rule", f"{problem.rule}: {RULES[problem.rule].title}")
            yield from _entry("", problem.message)
            yield from _entry("", f"→ {problem.remedy}")
    for problem in finding.problems:
        if not problem.blocks and problem.message != finding.summary:
            how = f"allowed, {problem.allowed}" if problem.allowed else "for your information"
            yield from _entry("note", f"{problem.rule} ({how}): {problem.message}")


def _files(evidence: Evidence) -> Iterator[str]:
    for entry in evidence.parts("files"):
        if entry.text("status") not in (None, "ok", "match", "matches"):
            yield from _entry("file", f"{entry.text('path')}: {entry.text('status')}", wrap=False)


def _trigger(evidence: Evidence) -> Iterator[str]:
    if not evidence.has("mask_size"):
        return
    name = evidence.text("target_name")
    yield from _entry("target", f"class {name}" if name is not None else "no single class")
    family, place = evidence.text("family_meaning"), evidence.text("where")
    if family and place:
        yield from _entry("kind", f"{family}: {place}")
    drawing = evidence.texts("trigger_drawing")
    if drawing:
        yield from _entry("trigger", drawing[0])
        yield from (f"{'':13}{_no_command(one_line(line))}".rstrip() for line in drawing[1:])
    index = evidence.number("anomaly_index")
    if index is not None:
        yield from _entry("beside", f"anomaly index {index:.1f} (shown, not judged by)")


def _suspects(evidence: Evidence) -> Iterator[str]:
    """The first of the suspicious images of a training set."""
    for number, entry in enumerate(evidence.parts("most_suspicious")[:SUSPECTS]):
        text = f"{entry.text('image')}: class {entry.text('label')}, nearest to class {entry.text('nearest')}"
        yield f"  {'suspects' if number == 0 else '':<11}{one_line(text)}"


def preprocessing_text(used: Mapping[str, Any] | None) -> str:
    """How images were prepared for the model and how that was known; empty where it was not opened."""
    if not used:
        return ""
    parts = [f"input_range = {_numbers(used['input_range'])}"]
    if any(used["mean"]) or any(part != 1 for part in used["std"]):
        parts += [f"mean = {_numbers(used['mean'])}", f"std = {_numbers(used['std'])}"]
    if used["channel_order"] != "RGB":
        parts.append(f"channel_order = {used['channel_order']}")
    text = ", ".join(parts)
    if used["origin"] == "declared":
        return f"{text}, declared. {used['note']}".rstrip()
    if used["origin"] != "inferred":
        how = "found in the graph" if used["origin"] == "graph" else "assumed"
        return f"{text}, {how}. {used['note']} Declare it to be sure.".replace("  ", " ")
    text += (
        f", inferred from {used['samples']} clean samples, of which {used['accuracy']:.0%} are classified correctly."
    )
    if used["equally_good"]:
        text += f" As good: {', '.join(used['equally_good'])}. Declare what the model was trained with."
    return text


def _doubtful_preprocessing(used: Mapping[str, Any] | None) -> str:
    """The same, where nobody declared it and it was more than the default or is in doubt; else empty."""
    return preprocessing_text(used) if used and (used["origin"] == "inferred" or used["note"]) else ""


def _numbers(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{number:.6g}' for number in numbers)}]"


def worst_first(models: Iterable[ModelReport]) -> list[ModelReport]:
    """By verdict, then by how many checks failed, then by name."""

    def order(model: ModelReport) -> tuple[int, int, str]:
        failed = sum(finding.outcome is Outcome.FAILED for finding in model.findings)
        return WORST_FIRST.index(model.verdict), -failed, model.path

    return sorted(models, key=order)


def summary_table(models: Sequence[ModelReport]) -> list[str]:
    """One line for each model, the worst first, then a preprocessing that was found, and what was not assessed."""
    ordered = worst_first(models)
    names = [one_line(model.path) for model in ordered]
    width = max(map(len, names), default=0)
    lines = []
    for model, name in zip(ordered, names, strict=True):
        outcomes = ", ".join(f"{one_line(finding.check)} {_mark(finding)}" for finding in model.findings)
        lines.append(f"{model.verdict.value:<11} {name:<{width}}  {outcomes or 'no check ran'}")
        text = _doubtful_preprocessing(model.preprocessing)
        if text:
            lines += _wrap(f"preprocessing: {text}", WIDTH, first=" " * 12, rest=" " * 14)
        accepted = ((one.check, f"accepted {one.accepted}") for one in model.findings if one.accepted is not None)
        unmade = (one for one in model.findings if one.outcome is Outcome.NOT_ASSESSED)
        for reason in (*_shared(accepted), *reasons(unmade)):
            lines += _wrap(reason, WIDTH, first=" " * 12, rest=" " * 14)
    return lines


def _mark(finding: Finding) -> str:
    return MARKS[finding.outcome] if finding.accepted is None else f"{MARKS[finding.outcome]} (accepted)"


def unneeded_acceptances(models: Sequence[ModelReport]) -> list[str]:
    """One line for each failure that the settings accept of a check that passes."""
    return [
        line
        for model in models
        for entry in (model.settings or {}).get("accept") or ()
        for finding in model.findings
        if finding.check in entry["checks"] and finding.outcome is Outcome.PASSED
        for line in _wrap(f"{model.path} passes {finding.check}: remove what accepts its failure.", WIDTH)
    ]


def missing_limits(models: Sequence[ModelReport]) -> list[str]:
    """One line if the process of a model's scan lacked a limit, as some systems do not have all of them."""
    lacking = {model.path: model.isolation["not_set"] for model in models if model.isolation}
    names = [name for name in ("memory", "processor time", "network") if any(name in part for part in lacking.values())]
    if not names:
        return []
    count = sum(bool(part) for part in lacking.values())
    return [f"This system could not limit {', '.join(names)} for the scan of {count} model(s)."]
