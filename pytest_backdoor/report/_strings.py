"""Text from model files, settings and checks, which may be hostile, made harmless for a reader's eyes."""

from __future__ import annotations

import re

LONGEST = 4000
# Control characters (a terminal obeys them), marks that turn or hide text, separators that break lines, tag characters,
# surrogates and what is no character at all. Tab and newline stay.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e0fff]"
)


def visible(text: str, longest: int = LONGEST) -> str:
    """``text`` with hidden and control characters written as escapes, such as ``\\x1b``; at most ``longest`` of it.

    What is cut is said; the JSON report has all of it.
    """
    left_out = len(text) - longest
    if left_out > 0:
        text = f"{text[:longest]}… ({left_out} more characters)"
    return _HIDDEN.sub(_escape, text)


def one_line(text: str, longest: int = LONGEST) -> str:
    """The same in one line: a newline is an escape, too."""
    return visible(text, longest).replace("\n", "\\n").replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
