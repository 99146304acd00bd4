"""Which acceptance holds for which files and on which day."""

from __future__ import annotations

from datetime import date

import pytest

from pytest_backdoor.acceptance import judged, read_acceptances
from pytest_backdoor.findings import Finding, Outcome

ONE, TWO = "1" * 64, "2" * 64
LAST = date(2027, 1, 31)


def finding(outcome=Outcome.FAILED, check="litmus"):
    return Finding(check=check, outcome=outcome, summary="It fails.", behavioural=True, remedy="Do not use it.")


def accepting(*digests, reason="known", until="2027-01-31", checks=("litmus", "margin")):
    return read_acceptances([{"checks": checks, "sha256": digests, "reason": reason, "until": until}])


@pytest.mark.parametrize("check", ["litmus", "margin"])
def test_model_with_external_data(check):
    failed = finding(check=check)
    assert judged(failed, accepting(ONE, TWO), [ONE, TWO], LAST).accepted == "until 2027-01-31: known"


@pytest.mark.parametrize(
    ("digests", "told"),
    [
        ([ONE], f"this is {ONE}."),
        ([TWO, ONE], f"this is {TWO}, {ONE}."),
        ([ONE, None], f"this is {ONE}, a file that cannot be read."),
        ([], "this is no file."),
    ],
)
def test_other_files(digests, told):
    found = judged(finding(), accepting(ONE, TWO), digests, LAST)
    assert (found.accepted, found.blocks) == (None, True)
    assert found.remedy == f"The settings accept litmus of another file; {told} Do not use it."


def test_the_day_after_the_last():
    found = judged(finding(), accepting(ONE), [ONE], date(2027, 2, 1))
    assert found.accepted is None
    assert found.remedy.startswith("The settings accepted litmus until 2027-01-31 and no longer: review it. ")


def test_of_several_files_with_an_entry_each():
    entries = (*accepting(ONE, reason="first"), *accepting(TWO, reason="second"))
    assert judged(finding(), entries, [TWO], LAST).accepted == "until 2027-01-31: second"
    other = judged(finding(), entries, ["3" * 64], LAST)
    assert other.remedy.count("another file") == 1, "the same is not said twice"


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.ERROR, Outcome.NOT_ASSESSED])
def test_only_a_failure_is_accepted(outcome):
    assert judged(finding(outcome), accepting(ONE), [ONE], LAST) == finding(outcome)


def test_a_check_that_nobody_names():
    assert judged(finding(check="reversal"), accepting(ONE), [ONE], LAST) == finding(check="reversal")
