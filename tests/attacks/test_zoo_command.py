"""The command line of zoos, end to end on made-up digits."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_zoos import new_zoo_folder, write_digits  # noqa: E402

from reference_attacks import cli  # noqa: E402
from reference_attacks.zoo import machine  # noqa: E402
from reference_attacks.zoo.benchmark import BenchmarkPlan, flops_of_a_step, ways  # noqa: E402
from reference_attacks.zoo.machine import Machine, choose_machine  # noqa: E402
from reference_attacks.zoo.store import load_zoo  # noqa: E402

SMALL = ["--clean", "1", "--poisoned", "2", "--calibration", "1", "--steps", "2", "--workers", "1", "--device", "cpu"]


@pytest.fixture
def run(tmp_path, capsys):
    """Run ``zoo ACTION``; gives the status and what was printed on stdout and stderr."""
    root = write_digits(tmp_path / "data")

    def run_action(action, *arguments):
        try:
            status = cli.main(["zoo", action, *arguments, "--data-root", root])
        except SystemExit as exit_:
            status = exit_.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_action


def test_build_from_options_to_a_zoo_that_can_be_read(run, tmp_path):
    options = [
        "--families",
        "plain",
        "depthwise",
        "--goals",
        "all-to-one",
        "all-to-all",
        "--triggers",
        "pixel",
        "blended",
    ]
    numbers = ["--poison-ratio", "0.25", "--least-attack-success", "0", "--seed", "5", "--test-share", "0.5"]
    status, out, err = run(
        "build", *SMALL, *options, *numbers, "--precision", "float32", "--out", str(tmp_path / "zoo")
    )
    assert (status, err) == (0, "")
    assert f"{tmp_path / 'zoo'}: 4 networks, of which " in out.replace("\n", "")
    zoo = load_zoo(tmp_path / "zoo")
    assert zoo.plan["precision"] == "float32"
    assert zoo.plan["seed"] == 5
    records = zoo.records + zoo.rejected
    assert sorted(record["name"] for record in records) == [
        *("clean-calibration-0000", "clean-fit-0000", "poisoned-fit-0000", "poisoned-test-0000")
    ]
    assert {record["family"] for record in records} <= {"plain", "depthwise"}
    assert all(record["backdoor"]["ratio"] == 0.25 for record in records if record["backdoor"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--clean", "-1"], "Numbers of networks cannot be negative."),
        (["--calibration", "-5"], "Numbers of networks cannot be negative."),
        (["--families", "lenet"], "Choose architecture families among plain, vgg"),
        (["--goals", "fame"], "Choose goals of the attack among source-target, all-to-one, all-to-all."),
        (["--triggers", "smiley"], "There is no trigger 'smiley'; choose one of patch3 to patch16"),
        (["--task", "letters"], "letters is neither one of the tasks mnist, cifar10, gtsrb nor a folder"),
        (["--test-share", "1.5"], "The share of test networks must lie between 0 and 1."),
        (["--test-share", "-0.1"], "The share of test networks must lie between 0 and 1."),
        (["--poison-ratio", "2"], "A poison ratio must lie between 0 and 1."),
        (["--steps", "0"], "A network needs at least one training step."),
        (["--workers", "0"], "There must be at least one worker"),
        (["--group", "0"], "at least one network in a group."),
        (["--least-attack-success", "90"], "The least attack success must be a share"),
        (["--executor", "cloud"], "invalid choice: 'cloud'"),
        (["--steps", "many"], "invalid int value: 'many'"),
    ],
)
def test_wrong_options_are_answered_with_one_sentence(run, tmp_path, options, sentence):
    status, out, err = run("build", *SMALL, *options, "--out", str(tmp_path / "zoo"))
    assert (status, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "zoo" / "plan.json").exists()


def test_a_wrong_option_does_not_spoil_the_folder(run, tmp_path):
    run("build", *SMALL, "--families", "lenet", "--out", str(tmp_path / "zoo"))
    status, _, err = run("build", "--task", "gtsrb", *SMALL, "--out", str(tmp_path / "zoo"))
    assert status == 2
    assert "holds the images of mnist, not of gtsrb" in err


@pytest.mark.parametrize("arguments", [[], ["zap"]])
def test_the_actions_are_named(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["zoo", *arguments])
    assert stopped.value.code == 2
    assert "ACTION" in capsys.readouterr().err or arguments


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("cpu", None, None, None), {"device": "cpu", "workers": 6, "group": 1}),
        (("cpu", 3, 2, None), {"device": "cpu", "workers": 3, "group": 2}),
        (("cuda:1", None, None, None), {"device": "cuda:1", "workers": 2, "group": 32}),
        (("cuda", 5, 7, None), {"device": "cuda", "workers": 5, "group": 7}),
    ],
)
def test_the_machine_decides_what_is_not_asked_for(given, expected, bfloat16, monkeypatch):
    monkeypatch.setattr(machine, "computes_bfloat16", lambda device: bfloat16)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    precision = "bfloat16" if bfloat16 else "float32"
    assert choose_machine(*given) == Machine(**expected, precision=precision)
    assert choose_machine(*given[:3], "float32").precision == "float32"


# Benchmark

CPU = Machine(device="cpu", workers=2, group=1, precision="bfloat16")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (CPU, [(1, 1, "float32"), (1, 1, "bfloat16"), (1, 4, "bfloat16"), (2, 1, "bfloat16")]),
        (
            Machine(device="cpu", workers=3, group=2, precision="float32"),
            [(1, 1, "float32"), (1, 4, "float32"), (3, 2, "float32")],
        ),
        (
            Machine(device="cuda", workers=2, group=32, precision="bfloat16"),
            [(1, 1, "float32"), (1, 1, "bfloat16"), (1, 32, "bfloat16"), (2, 32, "bfloat16")],
        ),
    ],
)
def test_the_ways_that_are_compared_end_with_that_of_build(chosen, expected):
    compared = ways(chosen)
    assert [(way.workers, way.group, way.precision) for way in compared] == expected
    assert len({way.name for way in compared}) == len(compared)


def test_operations_of_a_step_by_hand(tmp_path):
    plan = BenchmarkPlan(task="mnist", networks=1, steps=1, machine=CPU)
    first, second, hidden, last = (24 * 24 * 16 * 25, 8 * 8 * 32 * 16 * 25, 512 * 512, 512 * 10)
    # Forwards once; backwards twice, for the weights and for what came in, which of the images nobody asks.
    multiplications = 128 * (2 * first + 3 * (second + hidden + last))
    assert flops_of_a_step(plan, new_zoo_folder(tmp_path)) == 2 * multiplications


def test_benchmark_writes_a_table_and_figures_and_keeps_other_tasks(run, tmp_path):
    out = tmp_path / "speed.md"
    (tmp_path / "speed.json").write_text("{}")
    tiny = ["--networks", "2", "--steps", "2", "--rounds", "2", "--workers", "1", "--precision", "float32"]
    status, printed, err = run("benchmark", *tiny, "--device", "cpu", "--out", str(out))
    assert (status, err) == (0, "")
    assert printed.strip() == out.read_text(encoding="utf-8").strip()
    figures = json.loads((tmp_path / "speed.json").read_text())["mnist"]
    names = ["one by one, float32", "groups of 4 as one program, float32", "zoo build"]
    assert [way["name"] for way in figures["ways"]] == names
    for way in figures["ways"]:
        assert len(way["seconds"]) == len(way["networks_an_hour"]) == 2
        for seconds, rate in zip(way["seconds"], way["networks_an_hour"], strict=True):
            assert rate == pytest.approx(2 * 3600 / seconds)
        median = sum(way["seconds"]) / 2
        assert way["flops"] == pytest.approx(2 * 2 * figures["flops_of_a_step"] / median)
        limit = sum(figures["limits_in_flops"]["float32"]) / 2
        assert way["share_of_limit"] == pytest.approx(way["flops"] / limit)
    assert figures["ways"][-1]["threads"] == 1
    assert out.read_text(encoding="utf-8").count("\n| ") == 1 + 1 + len(names)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--networks", "0", "--out", "x.md"], "at least one network, one step and one round."),
        (["--rounds", "0", "--out", "x.md"], "at least one network, one step and one round."),
        (["--out", "x.txt"], "x.txt must be a .md file"),
        (["--task", "letters", "--out", "x.md"], "letters is neither one of the tasks"),
        (["--family", "lenet", "--out", "x.md"], "Choose architecture families among"),
    ],
)
def test_wrong_options_of_the_benchmark_are_answered_with_one_sentence(run, options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("benchmark", *options)
    assert (status, out) == (2, "")
    assert sentence in err
    assert not (tmp_path / "x.md").exists()
