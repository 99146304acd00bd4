from __future__ import annotations

import re
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from made_up_reports import every_kind_of_model, model, png, reversal, unmade
from markup import Page

from pytest_backdoor.findings import ModelReport, Outcome, ScanReport
from pytest_backdoor.report import write_report


def html(report, folder):
    path = folder / "scan.html"
    write_report(report, path)
    return path.read_text(encoding="utf-8")


def headings(page):
    return [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]


def test_what_a_person_must_learn(tmp_path):
    page = Page(html(ScanReport(models=[model("models/bad.onnx", reversal(), unmade("litmus"))]), tmp_path))
    for text in (
        "Backdoor scan: ✕ suspicious",
        "Target class: 3 (stop)",
        "clean image: class 6",
        "mask: where the trigger is",
        "with trigger: class 3 (stop)",
        "109 clean reference models score -0.20 to 5.70",
        "the check fails above 5.70",
        "fail at most 1 in 100 clean models by mistake",
        "What to do",
        "Do not deploy this model.",
        "What was not checked",
        "litmus: No detector pack fits images",
        "Not searched: warp.",
        "How to accept it",
        'checks = ["reversal"]',
        "pytest --backdoor-scan models/bad.onnx",
        "0123456789abcdef" * 4,
        "seed",
    ):
        assert text in page.text, text


def test_the_worst_comes_first(tmp_path):
    page = Page(html(every_kind_of_model(), tmp_path))
    order = [attributes["data-verdict"] for _, attributes in page.tags if "data-model" in attributes]
    assert order == ["suspicious"] * 2 + ["error"] + ["unverified"] * 3 + ["clean"]
    assert "5 of 7 models did not pass: 2 suspicious, 1 error, 3 unverified, 1 clean." in page.text


def test_it_can_be_navigated(tmp_path):
    page = Page(html(every_kind_of_model(), tmp_path))
    levels = headings(page)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(names)) == len(names)
    links = [attributes["href"].removeprefix("#") for tag, attributes in page.tags if tag == "a"]
    assert set(links) <= set(names)
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_ten_models_with_large_pictures_stay_below_a_megabyte(tmp_path):
    models = [model(f"models/{number}.onnx", reversal(side=100)) for number in range(10)]
    source = html(ScanReport(models=models), tmp_path)
    assert len(source.encode()) < 1_000_000
    assert "Some pictures are left out to keep this file small" in source
    # Those of the first model are there.
    assert source.index("<img") < source.index('id="model-2"')


def test_ten_models_with_all_pictures(tmp_path):
    source = html(ScanReport(models=[model(f"models/{number}.onnx", reversal()) for number in range(10)]), tmp_path)
    assert source.count("<img") == 50
    assert len(source.encode()) < 1_000_000


def test_thousands_of_models(tmp_path):
    models = [ModelReport(path=f"models/{number}.onnx") for number in range(600)]
    page = Page(html(ScanReport(models=models), tmp_path))
    assert "100 more models are in the JSON report alone." in page.text


def test_a_thousand_classes(tmp_path):
    page = Page(html(ScanReport(models=[model("a.onnx", reversal(classes=1000))]), tmp_path))
    assert "976 more classes have smaller values." in page.text
    assert "3 (class-3)" in page.text


def test_what_was_found_but_not_judged_is_shown(tmp_path):
    finding = replace(reversal(Outcome.NOT_ASSESSED), summary="A patch turns 75%. Nothing judges it.", p_value=None)
    source = html(ScanReport(models=[model("a.onnx", unmade("litmus"), finding)]), tmp_path)
    assert "could be assessed. Found, but not judged: A patch turns 75%.</p>" in source
    assert source.index("What was found") < source.index("<img") < source.index("What was not checked")


@pytest.mark.parametrize("name", ["mask_png", "clean_png"])
@pytest.mark.parametrize("value", ["<svg>", "aGVsbG8=", png()[:-1] + '"', 7, None, ["x"]])
def test_what_is_no_picture_is_left_out(tmp_path, name, value):
    finding = reversal()
    changed = replace(finding, evidence={**finding.evidence, name: value})
    page = Page(html(ScanReport(models=[model("a.onnx", changed)]), tmp_path))
    assert sum(tag == "img" for tag, _ in page.tags) == 4


def test_no_models(tmp_path):
    assert "No model was scanned." in Page(html(ScanReport(models=()), tmp_path)).text


def test_accepting_an_unverified_model(tmp_path):
    page = Page(html(ScanReport(models=[model("models/a.onnx", unmade("litmus"))]), tmp_path))
    assert "allow_unverified = true" in page.text
    allowed = Page(html(ScanReport(models=[model("a.onnx", unmade("litmus"), allow_unverified=True)]), tmp_path))
    assert "unverified, allowed" in allowed.text
    assert "How to accept it" not in allowed.text


def test_the_template_engine_is_imported_when_it_is_needed(tmp_path):
    import subprocess

    program = (
        "import sys; from pathlib import Path; from pytest_backdoor.findings import ScanReport\n"
        "from pytest_backdoor.report import write_report\n"
        "write_report(ScanReport(models=()), Path(sys.argv[1])); print('jinja2' in sys.modules)"
    )
    for suffix, needed in ((".json", "False"), (".sarif", "False"), (".md", "False"), (".html", "True")):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / f"a{suffix}")], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == needed
