"""The part of GitHub's expression language that action.yml and the workflows use, evaluated as GitHub does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

TOKENS = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w-]*(?:\.[\w-]+)*)|(?P<sign>==|!=|&&|\|\||[!()]))"
)
STATUS = ("always", "success", "failure", "cancelled")


def evaluate(source: str, contexts: Mapping[str, Any], status: Mapping[str, bool]) -> Any:
    """The value of ``source``; ``status``: what ``success()`` and its like are. Raises ValueError for anything else."""
    return _Parser(_tokens(source), contexts, status).whole()


def expand(text: str, contexts: Mapping[str, Any]) -> str:
    """``text`` with every ``${{ }}`` replaced by its value."""
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: as_text(evaluate(found[1], contexts, {})), text, flags=re.DOTALL)


def condition(source: str | None, contexts: Mapping[str, Any], *, failed: bool) -> bool:
    """Whether a step with this ``if`` runs; without a status function it also needs that nothing failed before."""
    status = {"always": True, "success": not failed, "failure": failed, "cancelled": False}
    if source is None:
        return not failed
    asks = any(re.search(rf"\b{name}\(\)", source) for name in STATUS)
    return bool(evaluate(source, contexts, status)) and (asks or not failed)


def as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tokens(source: str) -> list[tuple[str, str]]:
    found, place = [], 0
    source = source.rstrip()
    while place < len(source):
        match = TOKENS.match(source, place)
        if match is None or match.lastgroup is None:
            raise ValueError(f"cannot read {source[place:]!r}")
        found.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], contexts: Mapping[str, Any], status: Mapping[str, bool]) -> None:
        self._tokens, self._contexts, self._status = tokens, contexts, status

    def whole(self) -> Any:
        value = self._either()
        if self._tokens:
            raise ValueError(f"left over: {self._tokens}")
        return value

    def _chain(self, sign: str, part: Callable[[], Any], join: Callable[[Any, Any], Any]) -> Any:
        value = part()
        while self._tokens and self._tokens[0] == ("sign", sign):
            self._tokens.pop(0)
            value = join(value, part())
        return value

    def _either(self) -> Any:
        return self._chain("||", self._both, lambda left, right: left or right)

    def _both(self) -> Any:
        return self._chain("&&", self._equal, lambda left, right: left and right)

    def _equal(self) -> Any:
        value = self._single()
        while self._tokens and self._tokens[0] in (("sign", "=="), ("sign", "!=")):
            wanted = self._tokens.pop(0)[1] == "=="
            # GitHub compares texts without regard to case.
            value = (as_text(value).lower() == as_text(self._single()).lower()) is wanted
        return value

    def _single(self) -> Any:
        kind, text = self._tokens.pop(0)
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if (kind, text) == ("sign", "!"):
            return not self._single()
        if (kind, text) == ("sign", "("):
            value = self._either()
            assert self._tokens.pop(0) == ("sign", ")")
            return value
        if kind != "name":
            raise ValueError(f"unexpected {text}")
        if self._tokens[:2] == [("sign", "("), ("sign", ")")]:
            del self._tokens[:2]
            return self._status[text]
        return self._look_up(text)

    def _look_up(self, name: str) -> Any:
        value: Any = self._contexts
        for number, part in enumerate(name.split(".")):
            if number == 0 and part not in value:
                raise ValueError(f"there is no context {part}")
            value = value.get(part) if isinstance(value, Mapping) else None
        return value
