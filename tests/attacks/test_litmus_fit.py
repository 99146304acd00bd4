from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from pytest_backdoor.calibration import load_pack  # noqa: E402
from pytest_backdoor.checks.litmus import litmus_features, pack_score  # noqa: E402
from reference_attacks.cli import main  # noqa: E402
from reference_attacks.detectors.classifiers import SYMMETRIC, SymmetricClassifier, pooled  # noqa: E402
from reference_attacks.detectors.figures import (  # noqa: E402
    area_under_curve,
    auc_interval,
    false_positive_interval,
    held_out_figures,
)
from reference_attacks.detectors.litmus import LitmusPlan, answers, fit_litmus, total_variation  # noqa: E402
from reference_attacks.detectors.prototypes import fit_prototypes  # noqa: E402
from reference_attacks.detectors.splits import (  # noqa: E402
    for_calibration,
    for_optimisation,
    for_validation,
    unseen_test,
)
from reference_attacks.networks import mnist_badnet  # noqa: E402
from reference_attacks.zoo.store import FamilyStack, NetworkStack, Zoo, load_stack, load_zoo  # noqa: E402

SHAPE = (1, 28, 28)


def backdoor(number: int = 0, pair: tuple[int, int] = (1, 3)) -> dict:
    return {
        "goal": "source-target",
        "kind": "patch5",
        "number": number,
        "ratio": 0.5,
        "source": pair[0],
        "target": pair[1],
    }


def made_up_stack(count: int, first_seed: int, targets: tuple[int, ...] = (3,)) -> NetworkStack:
    """Random networks; every second one has a bias that pushes a target whatever the image: it counts as poisoned."""
    states = []
    for number in range(count):
        state = mnist_badnet(first_seed + number).state_dict()
        if number % 2:
            state["fc2.bias"][targets[number // 2 % len(targets)]] += 0.5
        states.append(state)
    weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    records = [{"name": str(n), "backdoor": backdoor() if n % 2 else None, "split": "fit"} for n in range(count)]
    part = FamilyStack(family="plain", input_shape=SHAPE, classes=10, weights=weights, records=records)
    return NetworkStack(parts=(part,))


def areas(fitted, stack: NetworkStack) -> float:
    scores, poisoned = fitted.scores(stack).numpy(), stack.poisoned.numpy()
    return area_under_curve(scores[~poisoned], scores[poisoned])


PLAN = LitmusPlan(patterns=2, epochs=8, batch=6)


def test_fitted_patterns_separate_networks_that_differ():
    fitted = fit_litmus(made_up_stack(12, 0), made_up_stack(6, 50), PLAN)
    assert areas(fitted, made_up_stack(10, 100)) == 1
    assert fitted.patterns.min() >= 0
    assert fitted.patterns.max() <= 1
    torch.testing.assert_close(fitted.patterns * 255, (fitted.patterns * 255).round())


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_over_patterns_leaves_one_feature_for_each_class(pooling):
    fitted = fit_litmus(made_up_stack(12, 0), made_up_stack(6, 50), replace(PLAN, pooling=pooling))
    assert fitted.classifier.weights.shape == (10,)
    assert areas(fitted, made_up_stack(10, 100)) == 1


def test_pooled_features_by_hand():
    features = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pooled(features, "mean"), features.sum(1) / 3)
    assert torch.equal(pooled(features, "max"), features.max(1).values)
    assert torch.equal(pooled(features, "concatenation"), features.reshape(2, 12))


def test_answers_are_the_features_of_the_logits():
    stack, images = made_up_stack(4, 0), torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    found = answers(stack, images)
    assert found.shape == (4, 3, 10)
    torch.testing.assert_close(found.flatten(1), litmus_features(stack.logits(images)))


@pytest.mark.parametrize("pooling", SYMMETRIC)
def test_a_class_symmetric_classifier_finds_targets_that_it_was_not_fitted_on(pooling):
    fit, validation = made_up_stack(24, 0, (0, 1, 2, 3)), made_up_stack(12, 50, (4, 5))
    unseen = made_up_stack(12, 100, (6, 7, 8, 9))
    plan = replace(PLAN, epochs=12)
    assert areas(fit_litmus(fit, validation, replace(plan, pooling=pooling)), unseen) == 1
    # What is found there is no matter of the patterns: a linear classifier knows nothing about those classes.
    assert areas(fit_litmus(fit, validation, plan), unseen) < 0.9


def test_a_class_symmetric_classifier_needs_clean_networks_to_measure_by():
    stack = made_up_stack(8, 0)
    with pytest.raises(ValueError, match="2 or more clean networks"):
        fit_litmus(stack.select(torch.tensor([0, 1, 3, 5])), stack, replace(PLAN, pooling="symmetric-max"))


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_any_batch_size_has_clean_networks(batch):
    stack = made_up_stack(10, 0)
    fitted = fit_litmus(stack, stack, replace(PLAN, pooling="symmetric-max", epochs=1, batch=batch))
    assert fitted.scores(stack).isfinite().all()


@pytest.mark.parametrize("pooling", SYMMETRIC)
def test_a_finished_class_symmetric_classifier_gives_the_scores_that_it_was_trained_with(pooling):
    features = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(0))
    poisoned = torch.arange(12) % 3 == 0
    classifier = SymmetricClassifier(pooling, 3)
    with torch.no_grad():
        classifier.weights.copy_(torch.tensor([0.5, -1.0, 2.0]))
        expected = classifier(features, poisoned)
    finished = classifier.finished(features[~poisoned])
    torch.testing.assert_close(finished.scores(features), expected, rtol=1e-4, atol=1e-5)
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = classifier.finished(features[~poisoned][:, :, order])
    torch.testing.assert_close(renamed.scores(features[:, :, order]), expected, rtol=1e-4, atol=1e-5)


def test_noise_stays_as_it_was_drawn_and_its_classifier_is_fitted():
    one, other = (
        fit_litmus(made_up_stack(12, 0), made_up_stack(6, 50), replace(PLAN, noise=True, epochs=epochs))
        for epochs in (2, 8)
    )
    assert torch.equal(one.patterns, other.patterns)
    assert not torch.equal(one.classifier.weights, other.classifier.weights)


def test_the_same_seed_gives_the_same_patterns_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, second = (fit_litmus(made_up_stack(6, 0), made_up_stack(4, 50), PLAN) for _ in range(2))
    assert torch.equal(first.patterns, second.patterns)
    assert torch.equal(first.classifier.weights, second.classifier.weights)
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
    assert area_under_curve(np.array(clean), np.array(poisoned)) == expected


def record(split: str, number: int, trigger: int | None = None, pair: tuple[int, int] = (1, 2)) -> dict:
    made = None if trigger is None else backdoor(trigger, pair)
    return {"name": f"{split}-{number:04d}", "split": split, "backdoor": made}


def test_validation_networks_have_triggers_of_their_own():
    records = [
        record(split, number, trigger)
        for split in ("fit", "test", "calibration")
        for trigger in (None, 0, 3, 8, 9)
        for number in range(10)
    ]
    optimised, validation = (list(filter(wanted, records)) for wanted in (for_optimisation, for_validation))
    assert {entry["split"] for entry in optimised + validation} == {"fit"}
    triggers = [{r["backdoor"]["number"] for r in part if r["backdoor"]} for part in (optimised, validation)]
    assert triggers == [{0, 3}, {8, 9}]
    assert len(optimised) + len(validation) == 50
    assert sum(entry["backdoor"] is None for entry in validation) == 2


def test_test_networks_with_a_pair_that_was_fitted_on_are_left_out():
    records = [record("fit", 0, 0, (1, 2)), record("fit", 1), record("test", 2, 0, (1, 2))]
    records += [record("test", 3, 0, (2, 1)), record("test", 4), record("calibration", 5)]
    zoo = Zoo(folder=Path("zoo"), records=records, rejected=[], input_shape=SHAPE, classes=10, plan={})
    assert [entry["name"] for entry in records if unseen_test([zoo])(entry)] == ["test-0003", "test-0004"]


def test_the_interval_holds_the_area_and_shrinks_with_more_networks():
    generator = np.random.default_rng(0)
    widths = []
    for count in (10, 200):
        clean, poisoned = generator.normal(0, 1, count), generator.normal(1, 1, count)
        low, high = auc_interval(clean, poisoned)
        assert low < area_under_curve(clean, poisoned) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_interval_of_a_rate():
    low, high = false_positive_interval(0, 50)
    assert low == 0
    # Clopper-Pearson: (1 - high) ** 50 = 0.025.
    assert (1 - high) ** 50 == pytest.approx(0.025)


def test_held_out_figures_by_hand():
    reference = np.arange(199) / 199
    figures = held_out_figures(np.array([0.1, 0.2]), np.array([0.5, 2.0]), reference)
    assert figures["auc"] == 1
    assert figures["poisoned_caught_at_0.005"] == 0.5
    assert figures["clean_flagged_at_0.05"] == 0


def test_prototypes_are_taken_for_their_classes_by_the_networks_that_made_them():
    stack = made_up_stack(2, 0)
    # Untrained networks are never sure of anything; these are.
    stack.parts[0].weights["fc2.weight"].mul_(200)
    prototypes = fit_prototypes(stack, seed=0)
    assert prototypes.shape == (10, *SHAPE)
    assert 0 <= prototypes.min() <= prototypes.max() <= 1
    predicted = stack.logits(prototypes).argmax(-1)
    assert (predicted == torch.arange(10)).sum(1).min() >= 8


def test_command_refuses_a_folder_without_a_zoo(tmp_path, capsys):
    assert main(["litmus", "fit", "--zoo", str(tmp_path), "--out", str(tmp_path / "pack.npz")]) == 2
    assert "holds no finished zoo" in capsys.readouterr().err


def write_zoo(zoo: Path, task: str = "mnist") -> None:
    """Twenty-two networks that are nearly alike; the poisoned ones push class 3."""
    from safetensors.torch import save_file

    (zoo / "networks").mkdir(parents=True)
    records: list[dict] = []
    for split, count in (("fit", 12), ("calibration", 4), ("test", 6)):
        for number in range(count):
            generator = torch.Generator().manual_seed(len(records))
            weights = mnist_badnet(0).state_dict()
            for value in weights.values():
                value.add_(0.1 * value.std() * torch.randn(value.shape, generator=generator))
            trigger = (8 if number < 4 else 0) if number % 2 and split != "calibration" else None
            made = record(split, number, trigger, (1 if split == "fit" else 2, 3))
            records.append({**made, "family": "plain", "rejected": None})
            if trigger is not None:
                weights["fc2.bias"][3] += 0.5
            save_file(weights, zoo / "networks" / f"{made['name']}.safetensors")
    plan = {"seed": 0, "classes": 10, "task": task}
    manifest = {"plan": plan, "input_shape": list(SHAPE), "networks": records}
    (zoo / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("pooling", [*SYMMETRIC, "concatenation"])
def test_command_writes_a_pack_and_its_figures(tmp_path, pooling):
    write_zoo(tmp_path / "zoo", task=str(tmp_path / "mnist"))
    out, results = tmp_path / "pack.npz", tmp_path / "results"
    command = ["litmus", "fit", "--zoo", str(tmp_path / "zoo"), "--out", str(out), "--results", str(results)]
    assert main([*command, "--patterns", "2", "--epochs", "2", "--no-reversal", "--pooling", pooling]) == 0
    pack = load_pack(out)
    zoo = load_zoo(tmp_path / "zoo")
    networks = load_stack([zoo], for_calibration).logits(torch.tensor(pack.patterns)).numpy()
    scores = [pack_score(pack, logits - logits.mean(-1, keepdims=True)) for logits in networks]
    np.testing.assert_allclose(scores, pack.references["litmus"].scores, rtol=1e-3, atol=1e-4)
    assert (pack.offsets is None) == (pooling == "concatenation")
    assert pack.patterns.shape == (2, *SHAPE)
    assert len(pack.references["litmus"].scores) == 4
    assert str(tmp_path) not in json.dumps(pack.built)
    figures = json.loads((results / "pack-mnist.json").read_text())
    assert figures["networks"]["test"] == {"clean": 3, "poisoned": 3}
    assert str(tmp_path) not in json.dumps(figures)
    text = (results / "pack-mnist.md").read_text()
    assert f"| litmus, M = 2, {pooling} |" in text
