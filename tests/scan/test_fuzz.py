"""Damaged files through the whole scan, each in its process; the command for ten thousand is in docs/benchmarks."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from fuzzing import TIMEOUT_SECONDS, fuzz, good_files

from pytest_backdoor.scanning import scan_file
from pytest_backdoor.settings import make_settings


def test_damaged_files_do_not_pass_and_do_not_stop_the_run(tmp_path):
    outcomes = fuzz(tmp_path, range(60))
    assert outcomes.files.total() == 60
    assert outcomes.passed == []
    assert outcomes.slowest[0] < TIMEOUT_SECONDS + 10
    assert outcomes.rules.total() > 10  # most damage is told by more than the hash


@pytest.mark.parametrize("name", sorted(good_files()))
def test_the_files_that_are_damaged_are_good(tmp_path, name):
    (tmp_path / name).write_bytes(good_files()[name])
    settings = make_settings({"checks": ("provenance",)}, where="test")
    (finding,) = scan_file(tmp_path / name, name, settings, tmp_path).findings
    assert finding.outcome.value == "not_assessed"
    assert not any(problem.fails for problem in finding.problems)
