"""Collecting what is wrong with one file, safe to print and short however much a hostile file does wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pytest_backdoor.findings import Problem

MOST_OF_ONE_RULE = 5
LONGEST_NAME = 80
# What needs no quotes inside a sentence.
PLAIN = re.compile(r"[\w.:/*@$+-]+", re.ASCII)

FETCH_AGAIN = "Fetch the file again from its publisher; if it stays like this, do not open it."
SAVE_AGAIN = "Let its author save it again with torch.save(model.state_dict(), ...) or as safetensors."
SAFE_FORM = (
    "Do not open it in any other way; ask its author for safetensors or ONNX, or for the state dict alone "
    "(torch.save(model.state_dict(), ...))."
)
REMEDIES = MappingProxyType(
    {
        "unknown-format": "Give an ONNX model, or a state dict (.pt, .pth, .safetensors).",
        "unsafe-serialisation": SAFE_FORM,
        "unsupported-version": SAVE_AGAIN,
        "ambiguous-archive": f"Do not open it. {SAVE_AGAIN}",
        "archive-too-large": f"Do not unpack it. {SAVE_AGAIN}",
        "malformed-file": FETCH_AGAIN,
        "inconsistent-tensors": f"{FETCH_AGAIN} Weights are best saved as safetensors.",
        "not-finite-weights": "Ask its author for weights from before the training diverged; allow it in the lock file "
        "if they are meant.",
    }
)


def shown(name: object) -> str:
    """A name that a file gives, for the middle of a sentence.

    Cut short, without anything that a terminal would act on or that only looks like other letters, and in quotes unless
    it is a plain word.
    """
    if not isinstance(name, (str, bytes)):
        return f"<{type(name).__name__}>"
    # Escapes only make it longer: the middle of a very long one is never seen and need not be looked at.
    ends = name if len(name) <= 2 * LONGEST_NAME else name[:LONGEST_NAME] + name[-LONGEST_NAME:]  # type: ignore[operator]
    quoted = ascii(ends.decode("utf-8", "backslashreplace") if isinstance(ends, bytes) else ends)
    text = quoted[1:-1] if PLAIN.fullmatch(quoted[1:-1]) else quoted
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME // 2]}…{text[1 - LONGEST_NAME // 2 :]}"  # the end often tells most


class Problems:
    """What is wrong with the file ``display``: at most ``MOST_OF_ONE_RULE`` sentences for each rule.

    ``remedies``: what to do about each rule, where the problem itself does not say.
    """

    def __init__(self, display: str, remedies: Mapping[str, str] = REMEDIES) -> None:
        self.display = display
        self._remedies = remedies
        self._found: dict[str, dict[str, str]] = {}
        self._more: dict[str, int] = {}

    def add(self, rule: str, what: str, remedy: str | None = None) -> None:
        """``what``: how the sentence goes on that begins with the name of the file, without a full stop.

        ``remedy``: None for that of the rule.
        """
        sentences = self._found.setdefault(rule, {})
        if what in sentences:
            return
        if len(sentences) < MOST_OF_ONE_RULE:
            sentences[what] = self._remedies[rule] if remedy is None else remedy
        else:
            self._more[rule] = self._more.get(rule, 0) + 1

    @property
    def found(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def listed(self) -> list[Problem]:
        """All of them, in the order of their rules' first appearance."""
        return [problem for rule in self._found for problem in self._of_rule(rule)]

    def _of_rule(self, rule: str) -> list[Problem]:
        texts = {f"{self.display} {what}.": remedy for what, remedy in self._found[rule].items()}
        if more := self._more.get(rule):
            last, remedy = texts.popitem()
            counted = "is 1 more problem" if more == 1 else f"are {more} more problems"
            texts[f"{last} There {counted} of this kind."] = remedy
        return [Problem(rule=rule, message=text, remedy=remedy, path=self.display) for text, remedy in texts.items()]


def inspected(
    look: Callable[[bytes, Problems], None], content: bytes, display: str, remedies: Mapping[str, str] = REMEDIES
) -> list[Problem]:
    """What ``look`` finds; an error that it did not foresee is a problem of the file, never one of the scan."""
    problems = Problems(display, remedies)
    try:
        look(content, problems)
    except Exception as error:  # hostile content: whatever it triggers, the file must not pass
        problems.add("malformed-file", f"cannot be read to its end ({type(error).__name__} while it was inspected)")
    return problems.listed()
