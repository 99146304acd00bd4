"""Every bad file of the corpus through the provenance check: it fails for the listed reason, and nothing runs."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import corpus
import pytest

from pytest_backdoor.findings import Finding, Outcome
from pytest_backdoor.models import Subject
from pytest_backdoor.scanning import with_found_lock
from pytest_backdoor.scanning._engine import Engine
from pytest_backdoor.settings import make_settings

MODULES = [importlib.import_module(f"corpus.{found.name}") for found in pkgutil.iter_modules(corpus.__path__)]
CASES = sorted(
    (case for module in MODULES for case in getattr(module, "CASES", ())), key=lambda case: (case.row, case.name)
)


def provenance(path: Path, root: Path) -> Finding:
    settings = with_found_lock(make_settings({"checks": ("provenance",)}, where="test"), root)
    subject = Subject(path.name, settings, path=path, root=root)
    return Engine(subject, settings, root).run("provenance")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"row_{case.row:02}-{case.name}")
def test_bad_file_fails_for_its_reason(tmp_path, case):
    root = tmp_path / "project"
    root.mkdir()
    canary = tmp_path / "canary"
    finding = provenance(case.write(root, canary), root)
    failing = {problem.rule for problem in finding.problems if problem.blocks}
    assert not canary.exists()
    if finding.outcome is Outcome.ERROR:  # some entries ask for a signature in a way that no lock file may
        assert case.row == 46
        assert "models.lock is not valid" in finding.summary
        return
    assert finding.outcome is Outcome.FAILED, finding.summary
    assert failing & case.rules, (failing, finding.summary)
    assert all(problem.remedy for problem in finding.problems if problem.blocks)
