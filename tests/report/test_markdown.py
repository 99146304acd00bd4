from __future__ import annotations

import pytest
from made_up_reports import every_kind_of_model, model, reversal
from markdown_it import MarkdownIt
from markup import Page

from pytest_backdoor.findings import ModelReport, ScanReport
from pytest_backdoor.report import write_report
from pytest_backdoor.report._markdown import MOST_BYTES, block, plain


def markdown(report, folder):
    path = folder / "summary.md"
    write_report(report, path)
    return path.read_text(encoding="utf-8")


def rendered(source):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(source)


def test_what_a_person_must_learn(tmp_path):
    source = markdown(every_kind_of_model(), tmp_path)
    page = Page(rendered(source))
    for text in (
        "Backdoor scan: ❌ suspicious",
        "5 of 7 models did not pass",
        "Target class: 3 (stop)",
        "Classes that stand out: 3 (class-3) (26.10).",
        "fail at most 1 in 100 clean models by mistake",
        "What was not checked",
        "pytest --backdoor-scan models/bad.onnx",
        "hash-mismatch",
        "allowed, until 2027-01-01: an old server",
    ):
        assert text in page.text, text
    assert "```\n█░\n▒▓\n```" in source
    assert "data:" not in source


def test_it_stays_within_what_github_takes(tmp_path):
    models = [model(f"models/{'long-name-' * 20}{number}.onnx", reversal()) for number in range(2000)]
    source = markdown(ScanReport(models=models), tmp_path)
    assert MOST_BYTES / 2 < len(source.encode()) < MOST_BYTES
    last = source.splitlines()[-1]
    assert "more models are not described here" in last
    listed, described = source.count("\n| ❌"), source.count("\n### ❌")
    assert f"{2000 - described} more models are not described here, {2000 - listed} of them not listed either" in last


def test_a_run_without_models(tmp_path):
    assert "No model was scanned." in markdown(ScanReport(models=()), tmp_path)


def test_a_model_that_was_not_reached(tmp_path):
    assert "the run ended before" in markdown(ScanReport(models=[ModelReport(path="a.onnx")]), tmp_path)


@pytest.mark.parametrize(
    "text", ["a `b` c", "````", "<b>*x* _y_ [z](w) | #1 ~~u~~", "https://example.org www.example.org"]
)
def test_texts_are_shown_as_they_are(text):
    page = Page(rendered(f"before {plain(text)} after"))
    assert page.text == f"before {text} after"
    assert [tag for tag, _ in page.tags] == ["p"]


def test_a_fence_is_longer_than_any_inside():
    page = Page(rendered(block(["```", "`````x", "</code>"])))
    assert [tag for tag, _ in page.tags] == ["pre", "code"]
    assert page.text == "``` `````x </code>"


def test_mentions_are_taken_apart():
    assert "@everyone" not in rendered(plain("@everyone"))
