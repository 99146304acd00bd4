from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from reference_attacks.cli import main, make_parser  # noqa: E402
from reference_attacks.detectors.figures import area_under_curve, held_out_figures  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.reproduce.changes import pruned, quantised  # noqa: E402
from reference_attacks.reproduce.experiments import p_values  # noqa: E402
from reference_attacks.reproduce.measures import part_of, with_scores  # noqa: E402
from reference_attacks.reproduce.plots import roc_points  # noqa: E402
from reference_attacks.reproduce.report import PAPER_AUC, as_csv, as_markdown, paper_auc  # noqa: E402
from reference_attacks.reproduce.scales import SIZES, zoo_commands  # noqa: E402
from reference_attacks.reproduce.ulp_command import TASKS  # noqa: E402
from reference_attacks.zoo.command import make_plan  # noqa: E402
from reference_attacks.zoo.store import FamilyStack, NetworkStack  # noqa: E402


def made_up_stack(count: int = 6) -> NetworkStack:
    states = [make_network("vgg", (1, 28, 28), 10, seed=number).state_dict() for number in range(count)]
    part = FamilyStack(
        family="vgg",
        input_shape=(1, 28, 28),
        classes=10,
        weights={name: torch.stack([state[name] for state in states]) for name in states[0]},
        records=[{"name": str(n), "backdoor": {} if n % 2 else None} for n in range(count)],
    )
    return NetworkStack(parts=(part,))


def made_up_result(seed: int) -> dict:
    generator = np.random.default_rng(seed)

    def figures(shift: float) -> dict:
        reference = generator.normal(0, 1, 150)
        return with_scores(generator.normal(0, 1, 12), generator.normal(shift, 1, 14), reference)

    networks = {"kept": 12, "rejected": 1, "clean_accuracy": 0.99, "attack_success": None}
    zoo = {
        "clean": networks,
        "poisoned": {**networks, "attack_success": 0.97},
        "families": ["plain"],
        "steps": [4],
        "precision": "float32",
    }
    ratio = {"attack_success": 0.9, "noise": figures(0.5), "patterns": figures(2)}
    return {
        "command": "python -m reference_attacks reproduce ulp --tasks mnist",
        "machine": "2 cores",
        "versions": {"torch": "2.15.0"},
        "networks": {"mnist": zoo},
        "methods": {name: figures(number / 3) for number, name in enumerate(PAPER_AUC)},
        "classes": 10,
        "false_positives": {"clean": 12, "flagged": 0, "interval_95": [0.0, 0.26], "reference": 150},
        "zoo_sizes": [{"networks": 20, **figures(1)}],
        "ratios": [{"ratio": 0.5, **ratio}, {"ratio": 0.01, **ratio}],
        "families": [
            {"family": "resnet", "clean_accuracy": 0.9, "fitted_on_main": figures(0), "fitted_on_others": figures(1)},
            {
                "family": "vgg",
                "tested": 26,
                "recognised": {"clean": 1, "poisoned": 2},
                "clean_accuracy": 0.99,
                "fitted_on_main": figures(0),
                "fitted_on_others": figures(1),
            },
        ],
        "variants": [{"goal": "all-to-one", "trigger": "wave", **figures(1)}],
        "changes": [{"change": "none", **figures(1)}],
    }


def test_report_is_written_from_the_results_that_are_there(tmp_path, capsys):
    (tmp_path / "ulp-mnist.json").write_text(json.dumps(made_up_result(0)))
    command = ["reproduce", "ulp", "--tasks", "--zoos", str(tmp_path), "--results", str(tmp_path)]
    assert main(command) == 0
    text = (tmp_path / "ulp.md").read_text()
    assert text == as_markdown({"mnist": made_up_result(0)})
    assert "CIFAR-10 AUC" not in text
    assert "| 3 of 26 |" in text
    for name in ("ulp-figure-4.png", "ulp-figure-5.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in text
    assert "figure" in capsys.readouterr().out


def test_without_results_there_is_a_sentence(tmp_path, capsys):
    assert main(["reproduce", "ulp", "--tasks", "--zoos", str(tmp_path), "--results", str(tmp_path)]) == 2
    assert "holds no results" in capsys.readouterr().err


def test_the_csv_holds_the_numbers_of_the_paper_beside_ours():
    rows = list(csv.DictReader(io.StringIO(as_csv({"gtsrb": made_up_result(0)}))))
    assert {row["detector"]: float(row["auc_paper"]) for row in rows} == {
        "noise, M = 1": 0.61,
        "noise, M = 5": 0.59,
        "noise, M = 10": 0.54,
        "trigger reversal": 0.74,
        "patterns, M = 1": 0.75,
        "patterns, M = 5": 0.88,
        "patterns, M = 10": 0.90,
    }
    assert paper_auc("patterns, M = 10, max pooling", "mnist") is None


def test_roc_points_have_the_area_under_the_curve():
    generator = np.random.default_rng(0)
    clean, poisoned = generator.integers(0, 9, 30).tolist(), generator.integers(3, 12, 20).tolist()
    false, true = roc_points(clean, poisoned)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    trapezoids = ((false[1:] - false[:-1]) * (true[1:] + true[:-1]) / 2).sum()
    assert trapezoids == pytest.approx(area_under_curve(np.array(clean), np.array(poisoned)))


def test_p_values_by_hand():
    assert p_values(np.array([0.5, 2.0, -1.0]), np.array([0.0, 1.0, 2.0])).tolist() == [0.75, 0.5, 1.0]


def test_a_part_of_a_stack_keeps_both_kinds():
    part = part_of(made_up_stack(20), 0.5)
    assert (len(part), int(part.poisoned.sum())) == (10, 5)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_pruning_zeroes_the_smallest_weights_of_each_layer_of_each_network(share):
    before, after = made_up_stack().parts[0].weights, pruned(made_up_stack(), None, share=share).parts[0].weights
    name = "features.1.0.weight"
    for old, new in zip(before[name], after[name], strict=True):
        zeroed = new == 0
        assert zeroed.double().mean().item() == pytest.approx(share, abs=0.01)
        assert old[zeroed].abs().max() <= old[~zeroed].abs().min()
        assert torch.equal(old[~zeroed], new[~zeroed])
    assert torch.equal(before["output.bias"], after["output.bias"])


def test_quantised_weights_have_at_most_255_levels_and_move_less_than_half_a_step():
    before, after = made_up_stack(2).parts[0].weights, quantised(made_up_stack(2), None).parts[0].weights
    kernel, rounded = before["hidden.weight"][1, 3], after["hidden.weight"][1, 3]
    step = kernel.abs().max() / 127
    assert (kernel - rounded).abs().max() <= step / 2 * 1.001
    assert not torch.equal(kernel, rounded)
    torch.testing.assert_close(rounded / step, (rounded / step).round())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("scale", ["paper", "reduced"])
def test_every_zoo_of_a_scale_is_one_that_can_be_built(scale, task):
    commands = zoo_commands(task, scale)
    assert list(commands) == [task, f"{task}-families", f"{task}-ratios", f"{task}-variants"]
    for name, options in commands.items():
        arguments = make_parser().parse_args(["zoo", "build", *options, "--out", name])
        plan = make_plan(arguments, 43 if task == "gtsrb" else 10, "float32")
        assert plan.task == task
    size = SIZES[scale, task]
    main_plan = make_plan(make_parser().parse_args(["zoo", "build", *commands[task], "--out", "x"]), 10, "float32")
    assert main_plan.clean_fit + main_plan.clean_test == size.clean
    assert main_plan.poisoned_fit + main_plan.poisoned_test == size.poisoned


def test_figures_without_reference_scores_claim_no_rates():
    figures = held_out_figures(np.array([0.0, 1.0]), np.array([2.0]))
    assert set(figures) == {"auc", "auc_95", "clean", "poisoned"}


def test_experiments_on_a_small_zoo(tmp_path: Path, monkeypatch):
    from made_up_zoos import write_digits

    from reference_attacks.reproduce import experiments
    from reference_attacks.zoo.build import build_zoo
    from reference_attacks.zoo.executors import LocalExecutor
    from reference_attacks.zoo.images import prepare_images
    from reference_attacks.zoo.recipe import ZooPlan

    write_digits(tmp_path / "data")
    plan = ZooPlan(
        clean_fit=6,
        clean_calibration=0,
        clean_test=2,
        poisoned_fit=30,
        poisoned_test=2,
        families=("plain",),
        steps=(1,),
        least_attack_success=0,
    )
    extra = replace(plan, clean_fit=0, clean_test=0, poisoned_fit=0, poison_ratios=(0.25,))
    for name, made in (("mnist", plan), ("mnist-ratios", extra)):
        prepare_images("mnist", str(tmp_path / "data"), tmp_path / name)
        build_zoo(made, tmp_path / name, executor=LocalExecutor(workers=1))
    monkeypatch.setattr(
        experiments,
        "reversal_margins",
        lambda zoo, records, **_: {"patch": np.random.default_rng(0).normal(size=(len(records), 2, 11))},
    )
    told: list[str] = []
    kept = tmp_path / "mnist-results.json"
    kept.write_text(json.dumps({"networks": {"state": "another", "result": "not these"}}))
    task = experiments.TaskExperiments("mnist", tmp_path, seed=0, workers=1)
    monkeypatch.setattr(task, "plan", lambda **chosen: experiments.LitmusPlan(epochs=1, **chosen))
    results = json.loads(json.dumps(task.run(told.append)))
    assert told == [name for name in results if name not in ("task", "seed", "classes")]
    assert set(PAPER_AUC) <= set(results["methods"])
    assert [row["ratio"] for row in results["ratios"]] == [0.5, 0.25]
    assert [row["detector"] for row in results["zoo_sizes"]] == [experiments.PLAIN] * 3 + [task.best_name] * 3
    assert results["false_positives"] is None
    assert results["changes"][0]["change"] == "none"
    assert results["changes"][0]["auc"] == results["methods"][task.best_name]["auc"]
    assert json.loads(kept.read_text()).keys() == set(told)
    monkeypatch.setattr(task, "methods", lambda: pytest.fail("measured again"))
    assert json.loads(json.dumps(task.run(lambda name: None))) == results
    few = experiments.TaskExperiments("mnist", tmp_path, seed=0, workers=1, reversed_networks=1).reversal()
    assert (few["clean"], few["poisoned"]) == (1, 1)


def test_transfer_is_measured_on_every_task_and_shown(tmp_path: Path):
    from test_litmus_fit import write_zoo

    from reference_attacks.detectors.invariant import InvariantPlan
    from reference_attacks.detectors.litmus import PatternPlan
    from reference_attacks.reproduce.transfer import TransferPlans, measure_transfer

    for task in ("mnist", "gtsrb"):
        write_zoo(tmp_path / task)
    plans = TransferPlans(
        invariant=InvariantPlan(patterns=2, epochs=2, hidden=4), shared=PatternPlan(patterns=2, epochs=2)
    )
    rows = measure_transfer(["mnist", "gtsrb"], tmp_path, plans)
    assert [(row["task"], row["fitted_on"]) for row in rows] == [("mnist", ["gtsrb"]), ("gtsrb", ["mnist"])]
    for row in rows:
        for kind in ("unseen", "seen"):
            assert row[kind]["measure"] == 4
            assert all({"auc", "auc_95"} <= set(row[kind][name]) for name in ("invariant", "class-symmetric"))
    text = as_markdown({"mnist": made_up_result(0)}, rows)
    assert "| MNIST | GTSRB | invariant | none |" in text
    assert "| GTSRB | MNIST | class-symmetric | 4 |" in text
