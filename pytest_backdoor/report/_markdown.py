"""A summary in GitHub's Markdown, for $GITHUB_STEP_SUMMARY or a comment: tables and a trigger drawn in text.

Pictures are left out, since GitHub strips them where they are part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..findings import ScanReport, Verdict
from ._advice import Advice
from ._check_view import CheckView
from ._strings import one_line, visible
from ._view import ModelView, run_view
from ._words import number

# GitHub takes at most 1 MiB of summary from one step, and others may write to it, too.
MOST_BYTES = 900_000
LONGEST_CELL = 300
_SIGNS = {Verdict.SUSPICIOUS: "❌", Verdict.ERROR: "❗", Verdict.UNVERIFIED: "❓", Verdict.CLEAN: "✅"}
_MARKUP = re.compile(r"""[!"#$&*<>@\[\\\]^_`{|}~]""")


def render_markdown(report: ScanReport) -> bytes:
    """The summary of ``report``, the worst model first, in UTF-8 and within what GitHub takes.

    Where it would be longer, models are told in a line of the table only, and then not at all; the text says so.
    """
    run = run_view(report)
    parts = [f"## Backdoor scan: {_SIGNS[report.verdict]} {report.verdict.value}\n\n{plain(run.lead)}\n\n"]
    room = MOST_BYTES - len(parts[0].encode())
    rows = list(_fitting((_row(view) for view in run.models), room // 2))
    if rows:
        parts += [_TABLE, *rows, "\n"]
    room -= sum(len(row.encode()) for row in rows) + len(_TABLE)
    sections = list(_fitting((_section(view) for view in run.models), room - 200))
    parts += sections
    if len(sections) < len(run.models):
        parts.append(
            f"{len(run.models) - len(sections)} more models are not described here, {len(run.models) - len(rows)} of "
            "them not listed either; see the HTML or JSON report.\n"
        )
    return "".join(parts).encode(errors="backslashreplace")


_TABLE = "| verdict | model | found | checks |\n| --- | --- | --- | --- |\n"


def _fitting(texts: Iterator[str], room: int) -> Iterator[str]:
    for text in texts:
        room -= len(text.encode(errors="backslashreplace"))
        if room < 0:
            return
        yield text


def plain(text: str, longest: int = 4000) -> str:
    """``text`` so that nothing in it is markup, a link or a mention, in one line."""
    # A character that is written as its number means nothing to Markdown, in a table neither.
    return _MARKUP.sub(_numbered, one_line(text, longest)).replace("www.", "www&#46;").replace("://", "&#58;//")


def _numbered(match: re.Match[str]) -> str:
    # GitHub looks for mentions in the text that it shows; a comment takes one apart.
    return f"&#{ord(match[0])};{'<!-- -->' if match[0] == '@' else ''}"


def code(text: str) -> str:
    """The same, shown as code."""
    return f"<code>{plain(text)}</code>"


def block(lines: Sequence[str], language: str = "") -> str:
    """Lines of code, as they are; ``language``: for colours."""
    body = [visible(line).replace("\n", "\\n") for line in lines]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *body, fence])


def _row(view: ModelView) -> str:
    found = plain(view.headline, LONGEST_CELL)
    cells = (f"{_SIGNS[view.model.verdict]} {view.verdict}", code(view.model.path), found, plain(view.outcomes))
    return f"| {' | '.join(cells)} |\n"


def _section(view: ModelView) -> str:
    """What a reader needs to know of one model; of one that passed, only what was not checked."""
    model = view.model
    lines = [f"### {_SIGNS[model.verdict]} {view.verdict}: {code(model.path)}", ""]
    if view.target is not None:
        lines += [f"**Target class:** {plain(view.target)}", ""]
    lines += _list("What to do", view.to_do)
    for check in view.checks:
        if check.prominent:
            lines += _check(check)
    if view.how_sure:
        lines += ["**How sure that is:** " + plain(view.how_sure), ""]
    lines += [f"<details><summary>What was not checked ({len(view.not_checked)})</summary>", ""]
    lines += [*(_bullet(advice) for advice in view.not_checked), "", "</details>", ""]
    lines += _list("How to accept it", view.to_accept)
    digest = code(model.sha256) if model.sha256 else "not known"
    lines += [f"SHA-256 {digest}" + (f", again with {code(model.command)}" if model.command else ""), ""]
    return "\n".join(lines) + "\n"


def _check(view: CheckView) -> list[str]:
    finding = view.finding
    lines = [
        f"**{plain(finding.check)} {view.outcome}**: {plain(finding.summary)} {plain(' '.join(view.sure))}".rstrip()
    ]
    lines.append("")
    lines += [
        f"- {code(entry.problem.rule)} ({plain(entry.state)}): {plain(entry.problem.message)}"
        for entry in view.problems
        if entry.problem.message != finding.summary
    ]
    if view.drawing:
        lines += ["", f"The trigger, {plain(view.drawing[0])}:", "", block(view.drawing[1:]), ""]
    if view.suspects:
        lines += ["", "| image | label | nearest class |", "| --- | --- | --- |"]
        lines += [f"| {code(image)} | {plain(label)} | {plain(nearest)} |" for image, label, nearest in view.suspects]
    high = [bar for bar in view.chart.bars if bar.stands_out] if view.chart else []
    if high:
        lines += [
            "",
            f"Classes that stand out: {', '.join(f'{plain(bar.name)} ({number(bar.value)})' for bar in high)}.",
        ]
    return [*lines, ""]


def _list(title: str, entries: Sequence[Advice]) -> list[str]:
    return [f"#### {title}", "", *(_bullet(advice) for advice in entries), ""] if entries else []


def _bullet(advice: Advice) -> str:
    title = f"**{plain(advice.title)}**: " if advice.title else ""
    text = f"- {title}{plain(advice.text)}"
    if not advice.code:
        return text
    lines = block(advice.code.split("\n")).split("\n")
    return "\n".join([text, "", *(f"  {line}" for line in lines), ""])
