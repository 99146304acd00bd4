"""The words that every report uses for checks, outcomes and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..findings import Outcome, Verdict

# The built-in checks, in the order in which a reader wants to see what they found: what may harm on opening, then what
# shows most.
QUESTIONS: Mapping[str, str] = MappingProxyType(
    {
        "provenance": "Is this the file that was published, from where it should come, and safe to open?",
        "reversal": "Is there a trigger that turns inputs into another class, further than in clean models?",
        "margin": "Does a small patch give a class a larger margin than in clean models?",
        "training-data": "Do some of the training images lie where clean images of their label do not?",
        "litmus": "Do its answers to litmus patterns look like those of a backdoored network?",
    }
)
# The same as an alert's title.
FAILURES: Mapping[str, str] = MappingProxyType(
    {
        "provenance": "The model file is not what was published, or not safe to open",
        "reversal": "A trigger turns inputs into another class, further than in clean models",
        "margin": "A small patch gives a class a larger margin than in clean models",
        "training-data": "Training images lie where clean images of their label do not",
        "litmus": "Its answers to litmus patterns look like those of a backdoored network",
    }
)
OUTCOMES: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.FAILED: "failed",
        Outcome.ERROR: "error",
        Outcome.NOT_ASSESSED: "not assessed",
        Outcome.PASSED: "passed",
    }
)
OUTCOMES_WORST_FIRST = tuple(OUTCOMES)
VERDICTS: Mapping[Verdict, str] = MappingProxyType(
    {
        Verdict.SUSPICIOUS: "A check failed.",
        Verdict.ERROR: "It could not be scanned.",
        Verdict.UNVERIFIED: "Nothing that looks at its behaviour could be assessed.",
        Verdict.CLEAN: "None of the signs that were looked for was found.",
    }
)
UNSEEN = (
    "No check sees triggers that are made for each image apart, triggers of other kinds than those that were searched, "
    "backdoors in text models, or what an attacker did who trained the model against these checks. Clean means that "
    "the signs that were looked for are absent."
)
RATE = (
    "That holds for clean models that are like the reference models: the same task, architecture and training. A clean "
    "model of another kind may be failed more often. A p-value is not the probability that this model is clean."
)


def question(check: str) -> str:
    """What a check asks; empty for one of a third party."""
    return QUESTIONS.get(check, "")


def rank(check: str) -> int:
    """Where a check stands among those of the same outcome."""
    return list(QUESTIONS).index(check) if check in QUESTIONS else len(QUESTIONS)


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as "1 model" and "2 models"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """A number with two decimals, and with an exponent where a person would write one."""
    if value == 0 or 0.005 <= abs(value) < 1e6:
        return f"{value:,.2f}"
    return f"{value:.2e}"


def share_of(value: float, noun: str) -> str:
    """A share of something as "1 in N" where N is a whole number, else in percent."""
    whole = 1 / value if value > 0 else 0.0
    if 2 <= whole < 1e9 and abs(whole - round(whole)) < 1e-6 * whole:
        return f"1 in {round(whole):,} {noun}"
    return f"{100 * value:.3g} % of {noun}"
