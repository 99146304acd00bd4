"""What every format says of a run and of each model; a format only lays it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..findings import WORST_FIRST, ModelReport, Outcome, ScanReport, Verdict
from ._advice import Advice, first_sentence, not_checked, to_accept, to_do
from ._check_view import CheckView, check_views, found_unjudged, target_of
from ._evidence import Evidence
from ._text import preprocessing_text, worst_first
from ._words import RATE, VERDICTS, plural, share_of


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """One model, ready to be shown. ``number``: its place in the report, from 1. ``facts`` and ``settings``: labels and
    texts. ``how_sure``: what the gate's false-positive rate means; empty where nothing was compared with clean models.
    """

    number: int
    model: ModelReport
    headline: str
    target: str | None
    checks: tuple[CheckView, ...]
    to_do: tuple[Advice, ...]
    to_accept: tuple[Advice, ...]
    not_checked: tuple[Advice, ...]
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    how_sure: str

    @property
    def verdict(self) -> str:
        """The verdict, and how a model that is not clean came to pass."""
        if self.model.verdict is Verdict.CLEAN or not self.model.accepted:
            return self.model.verdict.value
        how = "allowed" if self.model.verdict is Verdict.UNVERIFIED else "accepted"
        return f"{self.model.verdict.value}, {how}"

    @property
    def outcomes(self) -> str:
        """Each check with its outcome, in one line."""
        return ", ".join(f"{view.finding.check} {view.outcome}" for view in self.checks) or "no check ran"


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run. ``passes``: whether the gate is open. ``lead``: a sentence on all models."""

    passes: bool
    lead: str
    models: tuple[ModelView, ...]


def run_view(report: ScanReport) -> RunView:
    """The view of ``report``, the worst model first."""
    models = tuple(_model_view(number, model) for number, model in enumerate(worst_first(report.models), 1))
    closed = sum(not model.accepted for model in report.models)
    counts = [
        f"{count} {verdict.value}"
        for verdict in WORST_FIRST
        if (count := sum(model.verdict is verdict for model in report.models))
    ]
    how_many = plural(len(models), "model")
    if not models:
        lead = "No model was scanned."
    elif len(models) == 1:
        lead = "The model did not pass." if closed else "The model passed."
        if report.models[0].verdict is Verdict.SUSPICIOUS and not closed:
            lead = "The settings accept what was found in the model."
    else:
        lead = f"{closed} of {how_many} did not pass" if closed else f"All {how_many} passed"
        lead += f": {', '.join(counts)}."
    return RunView(passes=bool(models) and not closed, lead=lead, models=models)


def _model_view(number: int, model: ModelReport) -> ModelView:
    checks = check_views(model)
    return ModelView(
        number=number,
        model=model,
        headline=_headline(model, checks),
        target=_target(checks),
        checks=checks,
        to_do=tuple(to_do(model)),
        to_accept=tuple(to_accept(model)),
        not_checked=tuple(not_checked(model)),
        facts=tuple(_facts(model)),
        settings=tuple(_settings(model.settings or {})),
        how_sure=_how_sure(checks),
    )


def _headline(model: ModelReport, checks: tuple[CheckView, ...]) -> str:
    """What was found, in a sentence or two."""
    if not model.findings:
        return "No check ran: the run ended before this model was reached."
    if model.verdict in (Verdict.SUSPICIOUS, Verdict.ERROR):
        worst = checks[0].finding
        accepted = "" if worst.accepted is None else f" Accepted {worst.accepted}"
        return f"{worst.summary or VERDICTS[model.verdict]}{accepted}"
    if model.verdict is Verdict.UNVERIFIED:
        accepted = " The settings allow that." if model.accepted else ""
        found = [view.finding.summary for view in checks if found_unjudged(view.finding)]
        unjudged = f" Found, but not judged: {first_sentence(found[0])}" if found else ""
        return f"{VERDICTS[model.verdict]}{accepted}{unjudged}"
    made = sum(view.finding.outcome is Outcome.PASSED for view in checks)
    return f"{VERDICTS[model.verdict]} {plural(made, 'check')} passed."


def _how_sure(checks: tuple[CheckView, ...]) -> str:
    judged = [view.gauge.reference for view in checks if view.gauge and view.finding.p_value is not None]
    rates = [reference.significance for reference in judged if reference.significance is not None]
    if not rates:
        return ""
    return (
        f"The p-value says how often a clean model scores as high. Each check fails at p ≤ {max(rates):.2g}, and all "
        f"that are judged by one detector pack together fail at most {share_of(max(rates), 'clean models')} by "
        f"mistake. {RATE}"
    )


def _target(checks: tuple[CheckView, ...]) -> str | None:
    failed = (view.finding for view in checks if view.finding.outcome is Outcome.FAILED)
    return next((name for finding in failed if (name := target_of(finding)) is not None), None)


def _facts(model: ModelReport) -> Iterator[tuple[str, str]]:
    """The file: what it is, where it is from, how it was opened."""
    yield "path", model.path
    yield "SHA-256", model.sha256 or "not known"
    if model.size is not None:
        yield "size", f"{model.size:,} bytes"
    yield "format", model.format or "not known"
    yield from _origin(model)
    if model.task:
        task = Evidence(model.task)
        shape = " × ".join(f"{side:.0f}" for side in task.numbers("input_shape") if side is not None)
        classes = task.number("classes")
        words = (
            task.text("kind") or "image classification",
            shape,
            "" if classes is None else f"{classes:.0f} classes",
        )
        yield "task", ", ".join(word for word in words if word)
    prepared = preprocessing_text(model.preprocessing)
    if prepared:
        yield "images prepared", prepared
    if model.isolation:
        isolation = Evidence(model.isolation)
        lacking = ", ".join(isolation.texts("not_set"))
        limits = f"{isolation.text('process')} process, network {isolation.text('network')}"
        yield "isolation", limits + (f"; this system could not limit {lacking}" if lacking else "")


def _origin(model: ModelReport) -> Iterator[tuple[str, str]]:
    """Where the file is from, by the settings and the lock file, and hashes of further files."""
    declared = Evidence(model.settings).text("source")
    if declared:
        yield "source, as declared", declared
    for finding in model.findings:
        evidence = Evidence(finding.evidence)
        source = evidence.part("source")
        listed = [f"{name} {source.text(name)}" for name in source.names() if source.text(name)]
        if listed:
            yield "source, as listed", ", ".join(listed)
        recorded = evidence.text("recorded")
        if recorded:
            yield "vouched for by", recorded
        for entry in evidence.parts("files"):
            path, digest = entry.text("path"), entry.text("sha256")
            if path and digest and path != model.path:
                yield f"SHA-256 of {path}", digest
            expected = entry.text("expected_sha256")
            if expected and expected != digest:
                yield f"SHA-256 listed for {path or model.path}", expected


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings that are set, and the seed and the rate in any case."""
    for name, value in settings.items():
        if value is not None and value is not False:
            parts = value if isinstance(value, list | tuple) else (value,)
            yield str(name), ", ".join(_setting(part) for part in parts)


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{', '.join(value['checks'])} until {value['until']}"
    return str(value)
