"""What a scan says: findings of checks, verdicts on models, the report of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .rules import RULES


class Outcome(StrEnum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_ASSESSED = "not_assessed"
    ERROR = "error"


class Verdict(StrEnum):
    """What the findings on one model, or on all models of a run, add up to."""

    CLEAN = "clean"
    SUSPICIOUS = "suspicious"
    UNVERIFIED = "unverified"
    ERROR = "error"


WORST_FIRST = (Verdict.SUSPICIOUS, Verdict.ERROR, Verdict.UNVERIFIED, Verdict.CLEAN)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One rule that a file breaks.

    ``rule``: a name in ``rules.RULES``. ``message``: a sentence that names the file. ``remedy``: what to do, as
    sentences. ``path``: the file, as reports name it. ``fails``: False for what a reader should know but need not act
    on. ``allowed``: the reason and the date by which the lock file allows it, in which case it does not fail either.
    """

    rule: str
    message: str
    remedy: str
    path: str
    fails: bool = True
    allowed: str | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"There is no rule {self.rule!r}; add it to pytest_backdoor.rules.")

    @property
    def blocks(self) -> bool:
        """Whether this alone makes a check fail."""
        return self.fails and self.allowed is None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check on one model.

    ``score``: higher is more suspicious; None where the check has no scale. ``p_value``: in (0, 1], conformal or
    exact; None where nothing was calibrated. ``behavioural``: whether the check looks at what the model does.
    ``summary``: one sentence. ``remedy``: what to do next, empty if nothing. ``evidence``: JSON values only; pictures
    are base64-encoded PNG files under keys that end in ``_png``. ``seed``: None where nothing was random. ``problems``:
    what a check of the file found, each with its own remedy. ``accepted``: the last day until which the settings accept
    that it failed, and the reason; None if they do not.
    """

    check: str
    outcome: Outcome
    summary: str
    behavioural: bool
    remedy: str = ""
    score: float | None = None
    p_value: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    seed: int | None = None
    problems: tuple[Problem, ...] = ()
    accepted: str | None = None

    @property
    def blocks(self) -> bool:
        """Whether this alone keeps the gate closed."""
        return self.outcome is Outcome.ERROR or (self.outcome is Outcome.FAILED and self.accepted is None)

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        values = {**asdict(self), "outcome": self.outcome.value, "evidence": dict(self.evidence)}
        return values | {"problems": [asdict(problem) for problem in self.problems]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        """The finding that ``to_json`` wrote."""
        problems = tuple(Problem(**problem) for problem in values.get("problems", ()))
        return cls(**{**values, "outcome": Outcome(values["outcome"]), "problems": problems})


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """All findings on one model.

    ``sha256``, ``size`` (bytes) and ``format`` are None where the file could not be read. ``task`` holds
    ``input_shape`` ([C, H, W]) and ``classes`` where the model could be opened, ``preprocessing`` how images were
    prepared for it and how that was known, None where it was not. The task of an object detector also has ``kind``,
    "object-detection", and its ``input_shape`` may be None. ``isolation``: which limits held for the process that
    scanned it, None where it did not start. ``settings``: those that it was scanned with, and ``command``: a command
    line that repeats the scan; None where they are not known.
    """

    path: str
    sha256: str | None = None
    size: int | None = None
    format: str | None = None
    task: Mapping[str, Any] | None = None
    preprocessing: Mapping[str, Any] | None = None
    isolation: Mapping[str, Any] | None = None
    findings: Sequence[Finding] = ()
    settings: Mapping[str, Any] | None = None
    command: str | None = None

    @property
    def verdict(self) -> Verdict:
        """Suspicious if a check failed, else error if one erred, else clean if a behavioural check passed."""
        outcomes = {finding.outcome for finding in self.findings}
        if Outcome.FAILED in outcomes:
            return Verdict.SUSPICIOUS
        if Outcome.ERROR in outcomes:
            return Verdict.ERROR
        if any(finding.behavioural and finding.outcome is Outcome.PASSED for finding in self.findings):
            return Verdict.CLEAN
        return Verdict.UNVERIFIED

    @property
    def accepted(self) -> bool:
        """Whether the gate lets it pass: it is clean, or its settings accept what failed, or that it is unverified."""
        if self.verdict is Verdict.UNVERIFIED:
            return bool(self.settings and self.settings.get("allow_unverified")) and bool(self.findings)
        return not any(finding.blocks for finding in self.findings)

    @property
    def seconds(self) -> float:
        """Wall time of all checks."""
        return sum(finding.seconds for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report on this model as JSON values."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "size": self.size,
            "format": self.format,
            "task": dict(self.task) if self.task else None,
            "preprocessing": dict(self.preprocessing) if self.preprocessing else None,
            "isolation": dict(self.isolation) if self.isolation else None,
            "settings": dict(self.settings) if self.settings else None,
            "command": self.command,
            "verdict": self.verdict.value,
            "seconds": round(self.seconds, 4),
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, kw_only=True)
class ScanReport:
    """The report of one run over any number of models."""

    models: Sequence[ModelReport]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all models; unverified if there is none."""
        verdicts = {model.verdict for model in self.models}
        return next((verdict for verdict in WORST_FIRST if verdict in verdicts), Verdict.UNVERIFIED)

    def passes(self, *, allow_unverified: bool = False) -> bool:
        """Whether the gate opens: every model clean or accepted, or unverified where that is allowed here."""
        return bool(self.models) and all(
            allow_unverified if model.verdict is Verdict.UNVERIFIED else model.accepted for model in self.models
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, version 1 of the schema in ``docs/``."""
        from . import __version__

        return {
            "version": 1,
            "tool": {"name": "pytest-backdoor", "version": __version__},
            "settings": dict(self.settings),
            "models": [model.to_json() for model in self.models],
        }
