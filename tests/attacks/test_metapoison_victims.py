"""MetaPoison's trials and victims on made-up images, with networks of a few steps."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_metapoison import CLASSES, CPU, SHAPE, TRAINING, make_folder, make_trial  # noqa: E402
from made_up_zoos import make_images  # noqa: E402

from reference_attacks.data import ImageSet  # noqa: E402
from reference_attacks.metapoison.building import trained_victims  # noqa: E402
from reference_attacks.metapoison.measuring import Watch, last_features, logits_in_batches, make_view  # noqa: E402
from reference_attacks.metapoison.runs import VictimRun, as_jobs, grouped  # noqa: E402
from reference_attacks.metapoison.trials import choose_poisons, choose_targets, make_problem  # noqa: E402
from reference_attacks.metapoison.victims import VARIANTS, Replaced, train_victims, varied  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.training import as_input, predict  # noqa: E402


def make_convnet(seed: int = 0):
    return make_network("small-convnet", SHAPE, CLASSES, seed=seed)


def make_data(count: int = 40, seed: int = 0) -> ImageSet:
    return make_images(count, SHAPE, CLASSES, seed)


def test_names_tell_trials_and_victims_apart():
    trials = [
        make_trial(),
        make_trial(target_class=2),
        make_trial(wanted_class=2),
        make_trial(poison_class=2),
        make_trial(number=1),
        make_trial(budget=0.02),
        make_trial(epsilon=8 / 255),
        make_trial(targets=2),
        make_trial(arm="clean"),
        make_trial(arm="random"),
    ]
    assert len({trial.name for trial in trials}) == len(trials)
    assert make_trial(wanted_class=1).name == make_trial().name == "0-to-1-0-10-percent-16-levels-poisoned"
    assert len({trial.attack for trial in trials}) == len(trials) - 2
    runs = [
        VictimRun(trial=make_trial(), number=0),
        VictimRun(trial=make_trial(), number=1),
        VictimRun(trial=make_trial(), number=0, craft_step=2),
        *(VictimRun(trial=make_trial(), number=0, variant=variant) for variant in VARIANTS[1:]),
    ]
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize(
    "changes",
    [{"target_class": 1}, {"wanted_class": 0}, {"budget": 0.0}, {"epsilon": 2.0}, {"targets": 0}, {"number": -1}],
)
def test_trials_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match=r"\.$"):
        make_trial(**changes)


def test_targets_are_correctly_classified_and_shared_out_between_pairs():
    network, test = make_convnet().eval(), make_data(60, 1)
    common = int(predict(network, test.images).mode().values)
    correct = ((test.labels == common) & (predict(network, test.images) == common)).nonzero()[:, 0].tolist()
    trial = make_trial(target_class=common, poison_class=(common + 1) % CLASSES)
    ones = [int(choose_targets(replace(trial, number=number), network, test, 0)) for number in range(len(correct))]
    assert sorted(ones) == correct
    twos = choose_targets(replace(trial, targets=2, number=1), network, test, 0)
    assert twos.tolist() == ones[2:4]
    with pytest.raises(ValueError, match=f"pair {len(correct)} has no 1 targets"):
        choose_targets(replace(trial, number=len(correct)), network, test, 0)


def test_poisons_are_the_first_images_of_their_class():
    data = make_data()
    chosen = choose_poisons(make_trial(budget=0.1), data.labels)
    assert chosen.tolist() == (data.labels == 1).nonzero()[:4, 0].tolist()
    with pytest.raises(ValueError, match=r"40 % of 40 training images are 16, but class 1 has only 13"):
        choose_poisons(make_trial(budget=0.4), data.labels)


def test_a_third_party_attack_wants_another_class_than_the_poisons():
    problem = make_problem(make_trial(wanted_class=2, targets=2), make_data(), make_data(9, 1), [0, 3], CLASSES)
    assert problem.labels.tolist() == [2, 2]
    assert problem.true_labels.tolist() == [0, 0]
    assert (problem.clean.labels[problem.poisons] == 1).all()


def test_each_variant_changes_one_thing():
    changed = [varied(TRAINING, variant, other_network="vgg") for variant in VARIANTS]
    assert changed[0] == TRAINING
    assert (changed[1].batch, changed[1].learning_rate) == (20, 0.1)
    assert changed[2] == replace(TRAINING, momentum=0.0)
    assert changed[3].weight_decay > 0
    assert changed[3].flip
    assert changed[4] == replace(TRAINING, network="vgg")


def test_victims_trained_together_are_what_they_become_alone():
    clean = make_data()
    fresh = make_data(4, 9).images
    sets = [Replaced(images=fresh, indices=torch.tensor([1, 4, 7, 10])), None]

    def trained(chosen: list[int]):
        networks = [make_convnet(number) for number in chosen]
        epochs: list[int] = []
        train_victims(
            networks,
            clean,
            [sets[number] for number in chosen],
            TRAINING,
            [torch.Generator().manual_seed(number) for number in chosen],
            machine=CPU,
            on_epoch=epochs.append,
        )
        assert epochs == [1, 2]
        return networks

    together = trained([0, 1])
    for number, network in enumerate(together):
        (alone,) = trained([number])
        for one, other in zip(network.state_dict().values(), alone.state_dict().values(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_poisons_take_the_place_of_clean_images():
    clean, training = make_data(), replace(TRAINING, epochs=25, batch=20)
    # Images of another class in the place of the first ones of class 1: a victim learns that they are of class 1.
    fresh = make_data(9, 5).of_class(0).images
    network = make_convnet()
    replaced = Replaced(images=fresh, indices=torch.tensor([1, 4, 7]))
    train_victims([network], clean, [replaced], training, [torch.Generator().manual_seed(0)], machine=CPU)
    assert (predict(network, fresh) == 1).all()
    same = Replaced(images=clean.images[[1, 4, 7]], indices=replaced.indices)
    twins = [make_convnet(), make_convnet()]
    for one, twin in zip((same, None), twins, strict=True):
        train_victims([twin], clean, [one], training, [torch.Generator().manual_seed(0)], machine=CPU)
    for one, other in zip(twins[0].parameters(), twins[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_learning_rate_drops_after_shares_of_the_epochs(monkeypatch):
    rates: list[float] = []
    step = torch.optim.SGD.step

    def noted(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    training = replace(TRAINING, epochs=10, batch=20, learning_rate=0.1)
    train_victims([make_convnet()], make_data(), [None], training, [torch.Generator()], machine=CPU)
    assert rates == pytest.approx([0.1] * 8 + [0.01] * 4 + [0.001] * 4 + [0.0001] * 4)


def test_targets_in_a_batch_are_normalised_by_its_statistics_and_leave_the_running_ones():
    network, data = make_convnet(), make_data(16)
    before = deepcopy(network.state_dict())
    batches, targets = as_input(data.images[:14]).unflatten(0, (2, 7)), as_input(data.images[14:])
    found = logits_in_batches(network, batches, targets)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        expected = network(torch.cat([batches[1], targets]))[7:]
        evaluated = network.eval()(targets)
    torch.testing.assert_close(found[1], expected)
    assert not torch.allclose(found[1], evaluated, atol=1e-2)


def test_the_features_are_what_the_last_layer_sees():
    network, images = make_convnet().eval(), as_input(make_data(3).images)
    torch.testing.assert_close(last_features(network, images), network.features(images))


def test_a_watch_counts_targets_that_are_taken_for_the_wanted_class():
    network = make_convnet().eval()
    test = make_data(30, 1)
    predicted = predict(network, test.images)
    wanted = int(predicted.mode().values)
    source = (wanted + 1) % CLASSES
    chosen = [int((predicted == wanted).nonzero()[0]), int((predicted != wanted).nonzero()[0])]
    labels = test.labels.clone()
    labels[chosen] = source
    problem = make_problem(
        make_trial(target_class=source, poison_class=wanted, targets=2),
        make_data(),
        ImageSet(images=test.images, labels=labels),
        chosen,
        CLASSES,
    )
    judged = torch.arange(30) >= 10
    generator = torch.Generator().manual_seed(0)
    view = make_view(problem, problem.bases, test.labels, judged, batch=7, generator=generator, device="cpu")
    watch = Watch(network, view)
    for _ in range(2):
        watch.look(predicted)
    values = watch.values()
    assert values["evaluation"]["success"] == [0.5, 0.5]
    logits = torch.tensor(values["evaluation"]["logits"][0])
    assert logits.argmax(1).eq(wanted).tolist() == [True, False]
    assert values["evaluation"]["confidence"][0] == pytest.approx(float(logits.softmax(1)[:, wanted].mean()), abs=1e-4)
    assert len(values["batch"]["success"]) == 2
    assert values["validation_accuracy"][0] == pytest.approx(float((predicted == test.labels)[10:].double().mean()))
    assert values["distances"]["poisons"] == values["distances"]["bases"]


def test_clean_victims_serve_all_trials_and_groups_train_alike():
    trials = [make_trial(arm=arm, number=number) for number in (0, 1) for arm in ("poisoned", "clean", "random")]
    runs = [VictimRun(trial=trial, number=number) for trial in trials for number in (0, 1)]
    other = VictimRun(trial=trials[0], number=0, variant="optimiser")
    jobs = as_jobs([*runs, other, runs[0]])
    assert len(jobs) == 2 * 4 + 2 + 1
    assert sorted(len(job) for job in jobs) == [1] * 9 + [2, 2]
    assert {run for job in jobs for run in job} == {*runs, other}
    groups = grouped(jobs, 4)
    assert [len(group) for group in groups] == [4, 4, 2, 1]
    assert all(len({job[0].variant for job in group}) == 1 for group in groups)
    with pytest.raises(ValueError, match="craft steps"):
        VictimRun(trial=trials[1], number=0, craft_step=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder whose victims of three arms are done, the trials, and the runs."""
    folder = make_folder(tmp_path_factory.mktemp("work"), snapshots=(1,))
    folder.prepare(None)
    common = int(predict(folder.reference(), folder.images().test.images).mode().values)
    poisoned = make_trial(target_class=common, poison_class=(common + 1) % CLASSES)
    trials = [poisoned, replace(poisoned, arm="clean"), replace(poisoned, arm="random")]
    runs = [VictimRun(trial=trial, number=0, keep_weights=True) for trial in trials]
    folder.build([*runs, VictimRun(trial=poisoned, number=0, craft_step=1)], None)
    return folder, runs


def test_a_folder_keeps_records_poisons_and_weights(built):
    folder, runs = built
    for run in runs:
        record = folder.record(run)
        assert record is not None
        assert len(record["evaluation"]["logits"]) == 2
        assert record["targets"] == folder.targets(run.trial).tolist()
        weights = folder.weights(run)
        assert {len(value) for value in weights.values()} == {3}
        network = folder.new_network(folder.training(run), "victims/0")
        assert all(torch.equal(value, weights[name][0]) for name, value in network.state_dict().items())
        network.load_state_dict({name: value[-1] for name, value in weights.items()})
        with torch.no_grad():
            logits = network.eval()(as_input(folder.problem(run.trial).targets))
        torch.testing.assert_close(logits, torch.tensor(record["evaluation"]["logits"][-1]), atol=1e-3, rtol=1e-3)
    crafting = folder.crafting(runs[0].trial)
    assert crafting is not None
    assert len(crafting["history"]) == 2
    problem = folder.problem(runs[0].trial)
    for images in (folder.poisons(runs[0].trial), folder.poisons(runs[0].trial, 1)):
        assert 0 < (images.int() - problem.bases.int()).abs().max() <= 16
    assert not list((folder.path / "tiny" / "poisons").glob("*-progress"))


def test_arms_differ_by_their_poisons_alone(built):
    folder, runs = built
    crafted, clean, random = (trained_victims(folder, [(run,)])[0] for run in runs)
    assert torch.equal(clean.case.poisons.images, folder.problem(runs[0].trial).bases)
    changes = (random.case.poisons.images.int() - clean.case.poisons.images.int()).abs()
    assert changes.max() == 16
    assert not torch.equal(crafted.case.poisons.images, random.case.poisons.images)
    starts = [folder.weights(run)["output.weight"][0] for run in runs]
    assert torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], starts[2])


def test_victims_of_a_group_are_measured_as_they_are_alone(built):
    folder, runs = built
    crafted, clean, random = runs
    also = replace(clean, trial=replace(clean.trial, targets=2))
    found = {one.run: one for one in trained_victims(folder, [(crafted,), (clean, also), (random,)])}
    assert list(found) == [crafted, clean, also, random]
    for run in runs:
        alone = folder.record(run)
        assert alone is not None
        for part in ("evaluation", "batch"):
            logits = [torch.tensor(values[part]["logits"]) for values in (found[run].values, alone)]
            torch.testing.assert_close(*logits, atol=2e-2, rtol=1e-2)
    assert len(found[also].values["targets"]) == 2
    assert found[also].network is found[clean].network


def test_a_victim_can_be_trained_again(built):
    folder, runs = built
    (again,) = trained_victims(folder, [(runs[0],)])
    assert again.values["evaluation"] == folder.record(runs[0])["evaluation"]
    assert again.network.training is False


def test_a_run_goes_on_where_it_stopped(built):
    folder, runs = built
    record = folder.path / "tiny" / "victims" / f"{runs[0].name}.json"
    written = record.stat().st_mtime_ns
    poisons = folder.poisons_path(runs[0].trial).stat().st_mtime_ns
    more = VictimRun(trial=runs[0].trial, number=1)
    assert not folder.is_done(more)
    folder.build([*runs, more], None)
    assert folder.is_done(more)
    assert record.stat().st_mtime_ns == written
    assert folder.poisons_path(runs[0].trial).stat().st_mtime_ns == poisons
    assert not folder.is_done(replace(more, keep_weights=True))


def test_folders_refuse_what_does_not_fit_them(built):
    folder, runs = built
    with pytest.raises(ValueError, match="another setting"):
        replace(folder, setting=replace(folder.setting, train_images=27)).build(runs, None)
    with pytest.raises(ValueError, match="classes 0 to 2"):
        folder.build([VictimRun(trial=make_trial(target_class=7), number=0)], None)
    with pytest.raises(ValueError, match="craft step 2"):
        folder.build([VictimRun(trial=runs[0].trial, number=0, craft_step=2)], None)


def test_several_processes_craft_the_rest_together(tmp_path: Path, built):
    folder, runs = built
    other = make_folder(tmp_path)
    both = replace(other, machine=replace(CPU, workers=2))
    both.prepare(None)
    both.craft([runs[0].trial])
    torch.testing.assert_close(both.poisons(runs[0].trial), folder.poisons(runs[0].trial), atol=1, rtol=0)
