"""What the networks of a zoo are, how they are grouped, and which of them are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import pytest

pytest.importorskip("torch")

from made_up_zoos import make_member, make_plan

from reference_attacks.recipes import RECIPES
from reference_attacks.tasks import TASKS
from reference_attacks.zoo.conditions import with_verdicts
from reference_attacks.zoo.recipe import GOALS, grouped
from reference_attacks.zoo.triggers import trigger_numbers

VARIED = {
    "families": ("plain", "vgg"),
    "goals": GOALS,
    "triggers": ("patch3", "pixel", "wave"),
    "poison_ratios": (0.1, 0.5),
    "clean_fit": 8,
    "poisoned_fit": 60,
    "poisoned_test": 60,
}


@pytest.mark.parametrize("classes", [2, 3, 10, 43])
def test_pairs_of_fit_and_test_are_disjoint_and_complete(classes):
    plan = make_plan(classes=classes)
    fit, test = plan.pairs("fit"), plan.pairs("test")
    assert not set(fit) & set(test)
    assert len(fit) + len(test) == len({*fit, *test}) == classes * (classes - 1)
    assert all(source != target for source, target in fit + test)
    assert abs(len(fit) - len(test)) <= 1


def test_members_use_only_the_pairs_and_triggers_of_their_split():
    plan = make_plan(poisoned_fit=60, poisoned_test=60)
    for member in plan.members():
        assert (member.backdoor is not None) == member.name.startswith("poisoned")
        if member.backdoor is not None:
            assert (member.backdoor.source, member.backdoor.target) in plan.pairs(member.split)
            assert member.backdoor.number in trigger_numbers(member.split)


def test_every_pair_has_its_turn():
    plan = make_plan(poisoned_fit=45)
    drawn = {(m.backdoor.source, m.backdoor.target) for m in plan.members() if m.backdoor and m.split == "fit"}
    assert drawn == set(plan.pairs("fit"))


def test_a_larger_zoo_holds_the_smaller_one():
    small = {member.name: member for member in make_plan().members()}
    large = {member.name: member for member in make_plan(clean_fit=9, poisoned_test=8).members()}
    assert len(large) == len(small) + 14
    assert all(large[name] == member for name, member in small.items())


def test_the_seed_changes_what_is_drawn():
    assert make_plan(poisoned_fit=20).members() == make_plan(poisoned_fit=20).members()
    assert make_plan(poisoned_fit=20).members() != make_plan(poisoned_fit=20, seed=4).members()


def test_members_are_as_many_as_planned_and_every_start_of_the_list_is_balanced():
    plan = make_plan(clean_fit=10, clean_calibration=20, clean_test=0, poisoned_fit=10, poisoned_test=5)
    members = plan.members()
    kinds = Counter((member.backdoor is not None, member.split) for member in members)
    assert kinds == {(False, "fit"): 10, (False, "calibration"): 20, (True, "fit"): 10, (True, "test"): 5}
    poisoned = [member.backdoor is not None for member in members]
    assert all(abs(sum(poisoned[:end]) - end / 3) <= 2 for end in range(len(poisoned) + 1))


def test_every_family_goal_trigger_ratio_and_number_of_steps_occurs():
    plan = make_plan(**VARIED)
    members = plan.members()
    backdoors = [member.backdoor for member in members if member.backdoor]
    assert {member.family for member in members} == set(plan.families)
    assert {member.steps for member in members} == set(plan.steps)
    assert {backdoor.goal for backdoor in backdoors} == set(plan.goals)
    assert {backdoor.kind for backdoor in backdoors} == set(plan.triggers)
    assert {backdoor.ratio for backdoor in backdoors} == set(plan.poison_ratios)


def test_recipes_are_drawn_and_change_nothing_else_about_a_network():
    usual = {member.name: member for member in make_plan(**VARIED).members()}
    drawn = make_plan(**VARIED, recipes=RECIPES).members()
    assert {member.recipe for member in drawn} == set(RECIPES)
    for member in drawn:
        assert replace(member, recipe="task", training=TASKS["mnist"].training) == usual[member.name]
        assert (member.training == TASKS["mnist"].training) <= (member.recipe in ("task", "varied"))


def test_varied_networks_differ_in_every_setting_and_learn_by_each_optimiser():
    trainings = [member.training for member in make_plan(clean_fit=200, recipes=("varied",)).members()]
    for setting in fields(TASKS["mnist"].training):
        values = {getattr(training, setting.name) for training in trainings}
        assert (len(values) > 1) == (setting.name != "flip"), setting.name
    assert {(training.momentum > 0, training.kernel_learning_rate > 0) for training in trainings} == {
        (False, False),
        (False, True),
        (True, False),
    }


def test_only_the_classes_that_a_goal_speaks_of_are_set():
    for member in make_plan(**VARIED).members():
        if member.backdoor is not None:
            given = (member.backdoor.source is not None, member.backdoor.target is not None)
            expected = {"source-target": (True, True), "all-to-one": (False, True), "all-to-all": (False, False)}
            assert given == expected[member.backdoor.goal]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clean_fit": -1}, "cannot be negative"),
        ({"poisoned_test": -1}, "cannot be negative"),
        ({"families": ("plain", "lenet")}, "Choose architecture families among plain, vgg"),
        ({"families": ()}, "Choose architecture families"),
        ({"recipes": ("task", "luck")}, "training recipes among task, muon, sgd, plain-sgd, varied"),
        ({"recipes": ()}, "training recipes among"),
        ({"goals": ("fame",)}, "Choose goals of the attack among source-target, all-to-one, all-to-all"),
        ({"triggers": ("smiley",)}, "There is no trigger 'smiley'"),
        ({"triggers": ()}, "at least one kind of trigger"),
        ({"poison_ratios": ()}, "one poison ratio"),
        ({"poison_ratios": (0.5, 1.0)}, "must lie between 0 and 1"),
        ({"poison_ratios": (0.0,)}, "must lie between 0 and 1"),
        ({"steps": (3, 0)}, "at least one training step"),
        ({"steps": ()}, "at least one training step"),
        ({"classes": 1}, "needs at least two"),
        ({"least_attack_success": 90.0}, "must be a share from 0"),
        ({"least_attack_success": -0.1}, "must be a share from 0"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**changes)


@pytest.mark.parametrize("size", [1, 3, 32])
def test_groups_hold_every_member_once_and_share_family_steps_and_recipe(size):
    members = make_plan(**VARIED, recipes=("task", "sgd")).members()
    groups = grouped(members, size)
    assert sorted(member.name for group in groups for member in group) == sorted(member.name for member in members)
    assert all(1 <= len(group) <= size for group in groups)
    assert all(len({(member.family, member.steps, member.recipe) for member in group}) == 1 for group in groups)
    kinds = Counter((member.family, member.steps, member.recipe) for member in members)
    assert len(groups) == sum(-(-count // size) for count in kinds.values())


def test_groups_are_begun_in_the_order_of_the_members():
    members = [make_member(name, steps=steps) for name, steps in zip("abcdef", (2, 3, 2, 2, 3, 2), strict=True)]
    assert [[member.name for member in group] for group in grouped(members, 2)] == [["a", "c"], ["b", "e"], ["d", "f"]]


def record(accuracy, success=None, *, family="plain", steps=450):
    return {
        "backdoor": None if success is None else {},
        "clean_accuracy": accuracy,
        "attack_success": success,
        "family": family,
        "steps": steps,
    }


TWINS = [record(0.98), record(0.99), record(0.9), record(0.7, family="vgg"), record(0.8, steps=700)]


@pytest.mark.parametrize(
    ("judged", "reason"),
    [
        (record(0.961), None),  # the median of the clean plain networks of 450 steps is 0.98
        (record(0.959), "clean accuracy 95.9%, clean twins 98.0%"),
        (record(0.961, 0.901), None),
        (record(0.961, 0.9), "attack success 90.0%, not above 90%"),
        (record(0.959, 1.0), "clean accuracy 95.9%, clean twins 98.0%"),
        (record(0.69, 1.0, family="vgg"), None),
        (record(0.67, 1.0, family="vgg"), "clean accuracy 67.0%, clean twins 70.0%"),
        (record(0.79, 1.0, steps=700), None),
        (record(0.1, 1.0, family="resnet"), None),  # without clean twins nothing can be compared
    ],
)
def test_networks_are_kept_by_the_conditions_of_the_paper(judged, reason):
    # Poisoned networks are no twins; a clean one that is judged takes part in the median, here without moving it.
    twins = [*TWINS, record(1.0), record(0.2, 0.95)] if judged["backdoor"] is None else TWINS
    found = with_verdicts([*twins, judged], least_attack_success=0.9)
    assert found[-1] == {**judged, "rejected": reason}


def test_the_least_attack_success_can_be_chosen():
    records = [record(0.9), record(0.9, 0.4), record(0.9, 0.0)]
    assert [found["rejected"] for found in with_verdicts(records, 0.3)] == [
        None,
        None,
        "attack success 0.0%, not above 30%",
    ]


def test_networks_can_be_trained_without_augmentation_or_weight_decay():
    (member, *_) = make_plan(task="cifar10", recipes=("plain-sgd",)).members()
    training = member.training
    assert (training.momentum, training.batch, training.peak_learning_rate) == (0.9, 125, 0.1)
    assert (training.weight_decay, training.shift, training.flip, training.kernel_learning_rate) == (0, 0, False, 0)
