"""``reproduce badnets``: which parts are measured, and what is written of them."""

import argparse
import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")

from reference_attacks.cli import main, make_parser
from reference_attacks.reproduce.badnets.catalogue import PAPER
from reference_attacks.reproduce.parts import Paper, Part, Settings
from reference_attacks.reproduce.parts_command import chosen_parts


def parsed(*options: str) -> argparse.Namespace:
    return make_parser().parse_args(["reproduce", "badnets", "--work", "trained", *options])


@pytest.fixture
def made_up_parts(monkeypatch):
    """Parts that measure their own settings in place of networks; returns the settings of all measurements."""
    seen: list[tuple[str, Settings]] = []

    def find_part(paper: Paper, name: str) -> Part:
        def measure(settings: Settings) -> dict:
            seen.append((name, settings))
            return {"error": 0.25, "seed": settings.seed}

        pictures = {"": b"one"} if name == "figure-4" else {"pixel": b"first", "pattern": b"second"}
        return Part(
            title=f"Title of {name}",
            measure=measure,
            text=lambda results: f"error {results['error']}, seed {results['seed']}",
            draw=(lambda _: pictures) if name.startswith("figure") else None,
        )

    monkeypatch.setattr(Paper, "find_part", find_part)
    return seen


def test_all_parts_are_measured_where_none_is_named_and_in_the_papers_order():
    assert chosen_parts(PAPER, parsed()) == list(PAPER.modules)
    assert chosen_parts(PAPER, parsed("--table", "7", "2", "--figure", "5")) == ["table-2", "figure-5", "table-7"]


@pytest.mark.parametrize("option", [("--table", "3"), ("--figure", "1"), ("--seed", "x")])
def test_what_the_paper_or_this_project_does_not_have_is_refused(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(*option)
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_files_of_a_part_and_the_report_of_all(made_up_parts, tmp_path, capsys):
    options = ["reproduce", "badnets", "--work", str(tmp_path / "trained"), "--results", str(tmp_path), "--seed", "3"]
    assert main([*options, "--table", "2", "--workers", "1"]) == 0
    assert main([*options, "--figure", "4", "5"]) == 0
    assert main([*options, "--figure", "5", "--small"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "badnets-figure-4.json",
        "badnets-figure-4.png",
        "badnets-figure-5-pattern.png",
        "badnets-figure-5-pixel.png",
        "badnets-figure-5-small-pattern.png",
        "badnets-figure-5-small-pixel.png",
        "badnets-figure-5-small.json",
        "badnets-figure-5.json",
        "badnets-small.md",
        "badnets-table-2.json",
        "badnets.md",
    ]
    measured = json.loads((tmp_path / "badnets-table-2.json").read_text())
    assert measured["results"] == {"error": 0.25, "seed": 3}
    assert measured["command"] == "python -m reference_attacks reproduce badnets --table 2 --seed 3 --work trained"
    text = (tmp_path / "badnets.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## Title of figure-4", "## Title of table-2", "## Title of figure-5"]
    assert text.count("error 0.25, seed 3") == 3
    assert "(badnets-figure-5-pattern.png)" in text
    assert "small" not in text
    small = (tmp_path / "badnets-small.md").read_text()
    assert "(badnets-figure-5-small-pixel.png)" in small
    assert "(badnets-figure-5-pixel.png)" not in small
    assert "--figure 5 --small --seed 3" in small
    assert str(tmp_path) not in text + small
    assert [(name, settings.small, settings.work.name) for name, settings in made_up_parts] == [
        ("table-2", False, "trained"),
        ("figure-4", False, "trained"),
        ("figure-5", False, "trained"),
        ("figure-5", True, "trained"),
    ]
    assert "badnets-table-2.json, badnets.md" in capsys.readouterr().out


def test_a_run_without_workers_is_refused(tmp_path, capsys):
    assert main(["reproduce", "badnets", "--work", str(tmp_path), "--workers", "0"]) == 2
    assert "at least one worker" in capsys.readouterr().err


def test_every_part_can_be_found():
    for name in PAPER.modules:
        assert PAPER.find_part(name).title
