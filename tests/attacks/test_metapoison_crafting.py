"""MetaPoison's crafting: what is allowed, what may not matter (interruptions, chunks, processes), colours."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch
from meta_sets import made_up_problem, small_plan

from reference_attacks.metapoison import crafting, together
from reference_attacks.metapoison.colours import Recolouring, roughness
from reference_attacks.metapoison.crafting import craft, random_perturbation
from reference_attacks.metapoison.perturbation import Perturbation
from reference_attacks.metapoison.settings import CraftingPlan
from reference_attacks.metapoison.surrogates import packed_order
from reference_attacks.metapoison.unrolling import meta_gradient
from reference_attacks.metapoison.workers import craft_together


def levels(images, bases):
    return (images.int() - bases.int()).abs()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Several threads round sums otherwise than one, and each of two processes has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def problem():
    return made_up_problem()


@pytest.fixture(scope="module")
def whole(problem):
    """What one process crafts without interruption."""
    return craft(problem, small_plan(), seed=3, snapshots=(0, 2))


class PowerCutError(Exception):
    """In place of a power cut."""


def test_poisons_stay_within_the_bound_after_rounding_and_use_all_of_it(problem, whole):
    changes = levels(whole.images, problem.bases)
    assert changes.max() == 16
    assert (changes == 16).float().mean() > 0.3
    assert whole.images.dtype == torch.uint8


def test_a_bound_between_two_levels_is_rounded_down(problem):
    crafted = craft(problem, small_plan(bound=8.7 / 255, steps=2), seed=0)
    assert levels(crafted.images, problem.bases).max() == 8


def test_the_target_becomes_likelier_through_the_unrolled_steps():
    problem = made_up_problem(poisons=12)
    plan = small_plan(steps=6, objective="cross-entropy", batch=18, bound=64 / 255)
    aimed, random = (craft(problem, replace(plan, craft_rate=rate), seed=0).history[-1] for rate in (0.8, 1e-9))
    assert aimed.loss_after < random.loss_after - 1e-3
    assert aimed.loss_before == pytest.approx(random.loss_before)


def test_the_same_seed_gives_the_same_poisons_and_another_one_others(problem, whole):
    again, other = (craft(problem, small_plan(), seed=seed) for seed in (3, 4))
    assert torch.equal(again.images, whole.images)
    assert again.history == whole.history
    assert not torch.equal(other.images, whole.images)


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_crafting_goes_on_as_if_nothing_had_happened(problem, whole, tmp_path, after):
    def die(step, seen):
        if step == after:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        craft(problem, small_plan(), seed=3, folder=tmp_path, snapshots=(0, 2), on_step=die)
    steps = []
    resumed = craft(
        problem,
        small_plan(),
        seed=3,
        folder=tmp_path,
        snapshots=(0, 2),
        on_step=lambda step, seen: steps.append(step),
    )
    assert steps == list(range(after + 1, 5))
    assert torch.equal(resumed.images, whole.images)
    assert resumed.history == whole.history
    assert all(torch.equal(resumed.snapshots[step], whole.snapshots[step]) for step in (0, 2))


def test_a_finished_crafting_is_only_read(problem, whole, tmp_path):
    craft(problem, small_plan(), seed=3, folder=tmp_path)
    steps = []
    read = craft(problem, small_plan(), seed=3, folder=tmp_path, on_step=lambda *seen: steps.append(seen))
    assert not steps
    assert torch.equal(read.images, whole.images)


def test_the_checkpoint_of_another_crafting_is_refused(problem, tmp_path):
    craft(problem, small_plan(steps=1), seed=3, folder=tmp_path)
    with pytest.raises(ValueError, match="of a crafting with other images, settings or another seed"):
        craft(problem, small_plan(steps=1), seed=4, folder=tmp_path)
    with pytest.raises(ValueError, match="lacks the images after steps"):
        craft(problem, small_plan(steps=1), seed=3, folder=tmp_path, snapshots=(0,))
    (tmp_path / "crafting.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"crafting.safetensors is no checkpoint"):
        craft(problem, small_plan(steps=1), seed=3, folder=tmp_path)


@pytest.mark.parametrize(
    "changes", [{"chunk": 2}, {"chunk": 3}, {"checkpoint": True}, {"chunk": 2, "checkpoint": True}]
)
def test_neither_chunks_nor_checkpoints_change_the_poisons_but_for_rounding(problem, changes):
    plan = small_plan(surrogates=3, steps=1)
    plain, changed = craft(problem, plan, seed=0), craft(problem, replace(plan, **changes), seed=0)
    assert (levels(plain.images, changed.images) <= 1).float().mean() > 0.99
    for one, other in zip(plain.history, changed.history, strict=True):
        assert one.loss_after == pytest.approx(other.loss_after, rel=1e-4)


def test_two_processes_craft_what_one_does(problem, whole, tmp_path):
    shared = craft_together(problem, small_plan(), seed=3, workers=2, folder=tmp_path, snapshots=(0, 2), device="cpu")
    assert torch.equal(shared.images, whole.images)
    for one, other in zip(shared.history, whole.history, strict=True):
        assert one.loss_after == pytest.approx(other.loss_after, rel=1e-12)
    # What two processes have left, one can read.
    assert torch.equal(craft(problem, small_plan(), seed=3, folder=tmp_path).images, whole.images)


def test_more_processes_than_surrogates_are_refused(problem):
    with pytest.raises(ValueError, match="3 processes cannot share 2 surrogates"):
        craft_together(problem, small_plan(), seed=3, workers=3, device="cpu")


def test_a_process_that_dies_ends_all(problem, monkeypatch, tmp_path):
    """The first process must not wait for ever for one that is gone."""
    with pytest.raises(RuntimeError), together.workers_group(2, "cpu", dying_worker, ()) as group:
        together.Members(group).total(torch.zeros(1))


def dying_worker(group, rank):
    raise SystemExit(3)


def test_surrogates_are_staggered_trained_on_clean_images_and_renewed(problem):
    from reference_attacks.metapoison.stacks import Networks
    from reference_attacks.metapoison.surrogates import Surrogates
    from reference_attacks.networks import make_network

    plan = small_plan(surrogates=3, epochs=3)

    def make(seed):
        return make_network(plan.network, (3, 16, 16), problem.classes, seed=seed)

    nothing = torch.zeros(len(problem.clean), dtype=torch.bool)

    def surrogates(numbers):
        return Surrogates(Networks(make(0), device="cpu"), make, problem.clean, nothing, plan, numbers, seed=0)

    everyone = surrogates(range(3))
    fresh = {name: value.clone() for name, value in everyone.stack.weights.items()}
    everyone.stagger([slice(0, 3)])
    moved = [float((everyone.stack.weights[name][:, ...] - fresh[name]).abs().sum()) for name in fresh]
    assert all(amount > 0 for amount in moved)
    # Surrogate 0 starts in epoch 0, untrained; surrogate 2 in epoch 2.
    first = {name: value[0] for name, value in everyone.stack.weights.items()}
    assert all(torch.equal(value, fresh[name][0]) for name, value in first.items())
    steps = problem.clean.labels.numel() // plan.batch
    assert everyone.stack.buffers["body.0.1.num_batches_tracked"].tolist() == [0, steps, 2 * steps]
    # One alone is the same as among others.
    alone = surrogates([2])
    alone.stagger([slice(0, 1)])
    for name, value in alone.stack.weights.items():
        assert torch.allclose(value[0], everyone.stack.weights[name][2], atol=1e-4)
    before = everyone.stack.weights["output.weight"].clone()
    everyone.renew(1)
    same = [torch.equal(one, other) for one, other in zip(before, everyone.stack.weights["output.weight"], strict=True)]
    assert same == [True, True, False]
    assert everyone.stack.buffers["body.0.1.num_batches_tracked"][2] == 0


def test_packed_batches_hold_every_class_in_its_share_and_poisons_in_few():
    labels = torch.arange(120) % 3
    poisoned = (labels == 1) & (torch.arange(120) < 60)
    seeds = [(1, 5), (2, 5), (1, 6)]
    orders = [
        packed_order(labels, poisoned, 12, *(torch.Generator().manual_seed(seed) for seed in pair)) for pair in seeds
    ]
    for order in orders:
        assert order.sort().values.tolist() == list(range(120))
        for batch in order.view(-1, 12):
            assert labels[batch].bincount(minlength=3).tolist() == [4, 4, 4]
        # 20 poisons, 4 images of their class in a batch.
        assert poisoned[order.view(-1, 12)].any(1).sum() == 5
    where = [poisoned[order.view(-1, 12)].any(1).tolist() for order in orders]
    assert where[0] == where[1] != where[2]
    assert orders[0].tolist() != orders[1].tolist()
    short = packed_order(labels, poisoned, 50, torch.Generator().manual_seed(0), torch.Generator().manual_seed(0))
    assert not poisoned[short[100:]].any()


def test_packing_gives_every_poison_its_gradient_for_fewer_of_them(problem, monkeypatch):
    counts = {}
    for packed in (False, True):
        plan = small_plan(packed=packed, steps=3, batch=6)
        calls = []
        count = meta_gradient

        def counted(*arguments, **settings):
            calls.append(1)  # noqa: B023 - called within this turn only
            return count(*arguments, **settings)  # noqa: B023

        monkeypatch.setattr(crafting, "meta_gradient", counted)
        images = craft(problem, plan, seed=0).images
        monkeypatch.undo()
        assert (images != problem.bases).flatten(1).any(1).all()
        counts[packed] = len(calls)
    assert counts[True] < counts[False]


@pytest.fixture
def colourful():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 3, 12, 12, generator=generator)


def yuv(images):
    from reference_attacks.metapoison.colours import YUV_OF_RGB

    return torch.einsum("ij,pjhw->pihw", torch.tensor(YUV_OF_RGB), images)


def test_no_change_of_colours_is_none(colourful):
    recolouring = Recolouring(colourful, 0.04)
    torch.testing.assert_close(recolouring(recolouring.unchanged()), colourful)


def test_a_change_of_colours_is_bounded_and_interpolates_the_grid(colourful):
    recolouring = Recolouring(colourful, 0.04)
    grids = (torch.rand(recolouring.unchanged().shape, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.08
    change = yuv(recolouring(grids)) - yuv(colourful)
    assert change.abs().max() <= 0.04 + 1e-6
    assert change.abs().max() > 0.01
    # A colour on a grid point gets what that point says: the first axis is Y, the second U, the third V.
    point = torch.tensor([3 / 9, 2 / 9 - 0.5, 6 / 9 - 0.5])
    from reference_attacks.metapoison.colours import YUV_OF_RGB

    rgb = torch.linalg.solve(torch.tensor(YUV_OF_RGB), point).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    changed = yuv(Recolouring(rgb, 0.04)(grids[:1])) - yuv(rgb)
    torch.testing.assert_close(changed[0, :, 0, 0], grids[0, :, 3, 2, 6], atol=1e-5, rtol=0)


def test_equal_colours_change_alike_and_near_ones_nearly(colourful):
    grids = (torch.rand(1, 3, 10, 10, 10, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.08
    colour = torch.tensor([0.3, 0.5, 0.7]).view(1, 3, 1, 1).expand(1, 3, 1, 2).clone()
    colour[..., 1] += 0.002
    changed = Recolouring(colour, 0.04)(grids) - colour
    assert 0 < (changed[..., 0] - changed[..., 1]).abs().max() < 0.01


def test_crafted_colours_stay_bounded_and_become_smoother_with_more_weight(problem):
    found = {}
    for smoothness in (0.0, 1.0):
        plan = small_plan(colour=0.04, smoothness=smoothness, craft_rate=0.002, steps=30)
        perturbation = Perturbation(problem.bases, plan, torch.Generator().manual_seed(0))
        for step in range(plan.steps):
            images = perturbation.images()
            noise = 1e-4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(step))
            perturbation.step(images, noise, step)
        grids = perturbation.state()["colours"]
        assert 0 < grids.abs().max() <= 0.04
        found[smoothness] = roughness(grids).item()
        assert perturbation.state()["added"].abs().max() <= plan.bound + 1e-7
    assert found[1.0] < 0.8 * found[0.0]


def test_colours_are_crafted_and_resumed(problem, tmp_path):
    plan = small_plan(colour=0.04, steps=2)
    expected = craft(problem, plan, seed=0)

    def die(step, seen):
        raise PowerCutError

    with pytest.raises(PowerCutError):
        craft(problem, plan, seed=0, folder=tmp_path, on_step=die)
    assert torch.equal(craft(problem, plan, seed=0, folder=tmp_path).images, expected.images)
    additive = craft(problem, replace(plan, colour=0.0), seed=0)
    assert levels(expected.images, problem.bases).max() > levels(additive.images, problem.bases).max()


def test_grey_images_have_no_colours():
    with pytest.raises(ValueError, match="Only RGB images"):
        craft(made_up_problem(channels=1), small_plan(colour=0.04), seed=0)


def test_a_random_perturbation_takes_every_value_as_far_as_it_may(problem):
    moved = random_perturbation(problem.bases, 16 / 255, torch.Generator().manual_seed(0))
    changes = levels(moved, problem.bases)
    inside = (moved > 0) & (moved < 255)
    assert (changes[inside] == 16).all()
    assert changes.max() == 16
    assert moved.dtype == torch.uint8


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"surrogates": 0}, "are at least 1"),
        ({"craft_rate": 0.0}, "are positive"),
        ({"bound": 0.001}, "no uint8 image could change"),
        ({"colour": 0.7}, "colours' bound"),
        ({"batch": 20}, "choose a smaller batch"),
        ({"network": "nothing"}, "no architecture family"),
    ],
)
def test_settings_out_of_range_are_refused(problem, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        craft(problem, small_plan(**changes), seed=0)


def test_rates_follow_the_published_course():
    plan = CraftingPlan()
    assert plan.craft_rate_at(0) == pytest.approx(plan.craft_rate / 25)
    assert plan.craft_rate_at(4) == plan.craft_rate_at(19) == plan.craft_rate
    assert plan.craft_rate_at(20) == pytest.approx(plan.craft_rate / 10)
    assert plan.craft_rate_at(40) == pytest.approx(plan.craft_rate / 100)
    assert [round(plan.learning_rate_at(epoch), 3) for epoch in (0, 1, 4, 9)] == [0.02, 0.04, 0.1, 0.1]


def test_problems_that_do_not_fit_together_are_refused(problem):
    with pytest.raises(ValueError, match="none of them twice"):
        replace(problem, poisons=torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="numbers of training images"):
        replace(problem, poisons=torch.tensor([99]))
    with pytest.raises(ValueError, match="labels are from 0 to 2"):
        replace(problem, labels=torch.tensor([3]))
    with pytest.raises(ValueError, match="uint8 images of shape"):
        problem.poisoned(problem.bases.float())
    poisoned = problem.poisoned(255 - problem.bases)
    assert torch.equal(poisoned.images[problem.poisons], 255 - problem.bases)
    assert int((poisoned.images != problem.clean.images).flatten(1).any(1).sum()) == len(problem.poisons)
