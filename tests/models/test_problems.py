"""What is wrong with a file is told in few words that are safe to print, whatever the file holds."""

from __future__ import annotations

import pytest

from pytest_backdoor.models.inspection._problems import LONGEST_NAME, MOST_OF_ONE_RULE, Problems, inspected, shown


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layer/1.weight:0", "layer/1.weight:0"),
        (b"weight", "weight"),
        ("", "''"),
        ("two words", "'two words'"),
        ("it's", '"it\'s"'),
        ("\x1b[2J\n", "'\\x1b[2J\\n'"),
        ("оs.system", "'\\u043es.system'"),
        (b"\xff", "'\\\\xff'"),
        (3, "<int>"),
        (None, "<NoneType>"),
    ],
)
def test_names_are_told_safely(name, expected):
    assert shown(name) == expected


@pytest.mark.parametrize("name", ["a" * 10_000 + "end", b"a" * 10_000 + b"end", "é" * 10_000 + "end", b"\xff" * 999])
def test_long_names_are_cut_in_their_middle(name):
    text = shown(name)
    assert len(text) == LONGEST_NAME
    assert "…" in text
    assert text.strip("'").endswith("end" if name[-1] in ("d", ord("d")) else "xff")


@pytest.mark.parametrize(("more", "said"), [(0, "x4."), (1, "is 1 more problem of"), (7, "are 7 more problems of")])
def test_one_rule_is_told_a_few_times(more, said):
    problems = Problems("m")
    for number in range(MOST_OF_ONE_RULE + more):
        problems.add("malformed-file", f"is bad at x{number}")
        problems.add("malformed-file", "is bad at x0")
    listed = problems.listed()
    assert len(listed) == MOST_OF_ONE_RULE
    assert said in listed[-1].message


def test_the_remedy_is_that_of_the_problem_or_else_of_the_rule():
    problems = Problems("m", {"malformed-file": "Of the rule."})
    problems.add("malformed-file", "is bad")
    problems.add("malformed-file", "is worse", "Of the problem.")
    assert [problem.remedy for problem in problems.listed()] == ["Of the rule.", "Of the problem."]


def test_an_error_of_the_inspection_is_a_problem_of_the_file():
    def look(content: bytes, problems: Problems) -> None:
        raise RecursionError

    (problem,) = inspected(look, b"", "m")
    assert problem.rule == "malformed-file"
    assert "RecursionError while it was inspected" in problem.message
