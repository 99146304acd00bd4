from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from pytest_backdoor.calibration import load_pack  # noqa: E402
from pytest_backdoor.checks.litmus import litmus_features  # noqa: E402
from reference_attacks.cli import main  # noqa: E402
from reference_attacks.detectors.litmus import (  # noqa: E402
    LitmusPlan,
    area_under_curve,
    fit_litmus,
    total_variation,
)
from reference_attacks.detectors.packing import held_out_figures, split_for_fitting, without_seen_pairs  # noqa: E402
from reference_attacks.detectors.prototypes import (  # noqa: E402
    fit_prototypes,
    least_recognised,
    recognised_prototypes,
)
from reference_attacks.networks import mnist_badnet  # noqa: E402
from reference_attacks.zoo.store import NetworkStack  # noqa: E402

SHAPE = (1, 28, 28)


def made_up_stack(count: int, first_seed: int) -> NetworkStack:
    """Random networks; every second one has a bias that pushes class 3 whatever the image: it counts as poisoned."""
    states = []
    for number in range(count):
        state = mnist_badnet(first_seed + number).state_dict()
        if number % 2:
            state["fc2.bias"][3] += 0.5
        states.append(state)
    weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    records = [{"name": str(n), "trigger": 0 if n % 2 else None, "split": "fit"} for n in range(count)]
    return NetworkStack(weights=weights, records=records)


PLAN = LitmusPlan(patterns=2, epochs=8, batch=6)


def test_fitted_patterns_separate_networks_that_differ():
    fitted = fit_litmus(made_up_stack(12, 0), made_up_stack(6, 50), SHAPE, PLAN)
    unseen = made_up_stack(10, 100)
    scores = fitted.scores(unseen)
    assert area_under_curve(scores[~unseen.poisoned], scores[unseen.poisoned]) == 1
    assert fitted.patterns.min() >= 0
    assert fitted.patterns.max() <= 1


def test_the_same_seed_gives_the_same_patterns_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, second = (fit_litmus(made_up_stack(6, 0), made_up_stack(4, 50), SHAPE, PLAN) for _ in range(2))
    assert torch.equal(first.patterns, second.patterns)
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(state, torch.get_rng_state())


def test_features_do_not_depend_on_scale_and_shift_and_agree_between_libraries():
    logits = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
    features = litmus_features(logits)
    assert features.shape == (5, 8)
    torch.testing.assert_close(features, litmus_features(3 * logits + 7), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.numpy(), litmus_features(logits.numpy()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.square().mean(1), torch.ones(5))


def test_total_variation_of_a_step():
    pattern = torch.zeros(1, 1, 2, 4)
    pattern[..., 2:] = 1
    assert total_variation(pattern).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("clean", "poisoned", "expected"),
    [([0, 1], [2, 3], 1.0), ([2, 3], [0, 1], 0.0), ([1, 1], [1, 1], 0.5), ([0, 2], [1, 3], 0.75)],
)
def test_area_under_curve(clean, poisoned, expected):
    assert area_under_curve(torch.tensor(clean), torch.tensor(poisoned)) == expected


def test_validation_networks_have_triggers_of_their_own():
    records = [
        {"name": f"{trigger}-{number}", "trigger": trigger, "split": split}
        for split in ("fit", "test")
        for trigger in (None, 0, 3, 8, 9)
        for number in range(5)
    ]
    optimised, validation = split_for_fitting(records)
    assert {record["split"] for record in optimised + validation} == {"fit"}
    triggers = [{record["trigger"] for record in part} - {None} for part in (optimised, validation)]
    assert not triggers[0] & triggers[1]
    assert {record["name"] for record in optimised} & {record["name"] for record in validation} == set()


def test_test_networks_with_a_pair_that_was_fitted_on_are_left_out():
    def record(split, pair):
        return {"split": split, "source": pair[0], "target": pair[1], "trigger": None if pair[0] is None else 0}

    clean = (None, None)
    records = [record("fit", (1, 2)), record("fit", clean), record("test", (1, 2)), record("test", (2, 1))]
    records += [record("test", clean), record("calibration", clean)]
    kept = without_seen_pairs(records)
    assert [(entry["split"], entry["source"]) for entry in kept] == [
        ("fit", 1),
        ("fit", None),
        ("test", 2),
        ("test", None),
        ("calibration", None),
    ]


def test_held_out_figures_by_hand():
    reference = np.arange(199) / 199
    figures = held_out_figures(np.array([0.1, 0.2]), np.array([0.5, 2.0]), reference)
    assert figures["auc"] == 1
    assert figures["poisoned_caught_at_0.005"] == 0.5
    assert figures["clean_flagged_at_0.05"] == 0


def test_prototypes_are_taken_for_their_classes_by_the_networks_that_made_them():
    stack = made_up_stack(2, 0)
    # Untrained networks are never sure of anything; these are.
    stack.weights["fc2.weight"].mul_(200)
    prototypes = fit_prototypes(stack, SHAPE, seed=0)
    assert prototypes.shape == (10, *SHAPE)
    assert 0 <= prototypes.min() <= prototypes.max() <= 1
    assert recognised_prototypes(prototypes, stack).min() >= 8


@pytest.mark.parametrize(("fewest", "classes", "least"), [(10, 10, 8), (4, 10, 5), (3, 3, 2), (43, 43, 41)])
def test_least_recognised(fewest, classes, least):
    assert least_recognised(torch.tensor([fewest, classes]), classes) == least


def test_command_refuses_a_folder_without_a_zoo(tmp_path, capsys):
    assert main(["litmus", "fit", "--zoo", str(tmp_path), "--out", str(tmp_path / "pack.npz")]) == 2
    assert "holds no finished zoo" in capsys.readouterr().err


def test_command_writes_a_pack_and_its_figures(tmp_path):
    from safetensors.torch import save_file

    zoo = tmp_path / "zoo"
    (zoo / "networks").mkdir(parents=True)
    records = []
    for split, count in (("fit", 12), ("calibration", 4), ("test", 6)):
        stack = made_up_stack(count, len(records))
        for number in range(count):
            poisoned = bool(number % 2) and split != "calibration"
            record = {
                "name": f"{split}-{number}",
                "split": split,
                "trigger": (8 if number < 4 else 0) if poisoned else None,
                "source": (1 if split == "fit" else 2) if poisoned else None,
                "target": 3 if poisoned else None,
                "kept": True,
            }
            weights = {name: value[number].clone() for name, value in stack.weights.items()}
            save_file(weights, zoo / "networks" / f"{record['name']}.safetensors")
            records.append(record)
    (zoo / "manifest.json").write_text(json.dumps({"plan": {"seed": 0}, "networks": records}))
    out, results = tmp_path / "pack.npz", tmp_path / "results"
    command = ["litmus", "fit", "--zoo", str(zoo), "--out", str(out), "--results", str(results)]
    assert main([*command, "--patterns", "2", "--epochs", "2", "--no-reversal"]) == 0
    pack = load_pack(out)
    assert pack.patterns.shape == (2, *SHAPE)
    assert len(pack.references["litmus"].scores) == 4
    assert str(tmp_path) not in json.dumps(pack.built)
    figures = json.loads((results / "pack-mnist.json").read_text())
    assert figures["networks"]["test"] == {"clean": 3, "poisoned": 3}
    assert "| litmus, M = 2 |" in (results / "pack-mnist.md").read_text()
