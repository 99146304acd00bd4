"""Collecting what is wrong with one file, safe to print and short however much a hostile file does wrong."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from pytest_backdoor.findings import Problem

MOST_OF_ONE_RULE = 5
LONGEST_NAME = 80

FETCH_AGAIN = "Fetch the file again from its publisher; if it stays like this, do not open it."
SAVE_AGAIN = "Let its author save it again with torch.save(model.state_dict(), ...) or as safetensors."
SAFE_FORM = (
    "Do not open it in any other way; ask its author for safetensors or ONNX, or for the state dict alone "
    "(torch.save(model.state_dict(), ...))."
)
REMEDIES = MappingProxyType(
    {
        "lfs-pointer-or-error-page": "Fetch the model itself; for a Git LFS pointer, run git lfs pull.",
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
    """A name that a file gives, cut short and without anything that a terminal would act on."""
    text = ascii(name) if isinstance(name, (str, bytes)) else f"<{type(name).__name__}>"
    text = text[1:-1] if text.startswith(("'", '"')) else text
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME // 2]}…{text[1 - LONGEST_NAME // 2 :]}"  # the end often tells most


class Problems:
    """What is wrong with the file ``display``: at most ``MOST_OF_ONE_RULE`` sentences for each rule."""

    def __init__(self, display: str) -> None:
        self.display = display
        self._found: dict[str, dict[str, None]] = {}
        self._more: dict[str, int] = {}

    def add(self, rule: str, what: str) -> None:
        """``what``: how the sentence goes on that begins with the name of the file, without a full stop."""
        sentences = self._found.setdefault(rule, {})
        if what in sentences:
            return
        if len(sentences) < MOST_OF_ONE_RULE:
            sentences[what] = None
        else:
            self._more[rule] = self._more.get(rule, 0) + 1

    @property
    def found(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def listed(self) -> list[Problem]:
        """All of them, in the order of their rules' first appearance."""
        problems: list[Problem] = []
        for rule, sentences in self._found.items():
            texts = [f"{self.display} {what}." for what in sentences]
            if more := self._more.get(rule):
                texts[-1] += f" There are {more} more problems of this kind."
            problems.extend(
                Problem(rule=rule, message=text, remedy=REMEDIES[rule], path=self.display) for text in texts
            )
        return problems


def inspected(look: Callable[[bytes, Problems], None], content: bytes, display: str) -> list[Problem]:
    """What ``look`` finds; an error that it did not foresee is a problem of the file, never one of the scan."""
    problems = Problems(display)
    try:
        look(content, problems)
    except Exception as error:  # hostile content: whatever it triggers, the file must not pass
        problems.add("malformed-file", f"cannot be read to its end ({type(error).__name__} while it was inspected)")
    return problems.listed()
