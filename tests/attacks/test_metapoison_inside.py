"""What Figure 6 of MetaPoison looks into: paths of weights and distances of features, on tiny networks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_zoos import make_images  # noqa: E402

from reference_attacks.data import ImageSet  # noqa: E402
from reference_attacks.metapoison.feature_space import QUANTILES, feature_distances  # noqa: E402
from reference_attacks.metapoison.kept_weights import flattened, last_network, path_of  # noqa: E402
from reference_attacks.metapoison.problem import Problem  # noqa: E402
from reference_attacks.metapoison.settings import CraftingPlan  # noqa: E402
from reference_attacks.metapoison.stacks import Stack  # noqa: E402
from reference_attacks.metapoison.weight_space import principal_plane, weight_paths  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.training import as_input  # noqa: E402

SHAPE, CLASSES = (3, 16, 16), 3
PLAN = CraftingPlan(network="small-convnet", unroll=2, batch=10, learning_rate=0.05)


def make_problem() -> Problem:
    clean, test = make_images(60, SHAPE, CLASSES, 0), make_images(9, SHAPE, CLASSES, 1)
    target = int((test.labels == 0).nonzero()[0])
    return Problem(
        clean=clean,
        poisons=(clean.labels == 1).nonzero()[:12, 0],
        targets=test.images[target : target + 1],
        true_labels=torch.tensor([0]),
        labels=torch.tensor([1]),
        classes=CLASSES,
    )


def make_convnet(seed: int = 0):
    return make_network("small-convnet", SHAPE, CLASSES, seed=seed)


def kept(networks) -> dict[str, torch.Tensor]:
    """Weights and buffers as a folder keeps them."""
    states = [network.state_dict() for network in networks]
    return {name: torch.stack([state[name] for state in states]) for name in sorted(states[0])}


def test_kept_weights_become_networks_again():
    networks = [make_convnet(seed) for seed in range(3)]
    path = path_of(make_convnet(), kept(networks))
    assert len(path) == 3
    for row, network in zip(flattened(path), networks, strict=True):
        assert torch.equal(row, torch.nn.utils.parameters_to_vector(network.parameters()))
    images = as_input(make_images(4, SHAPE, CLASSES).images)
    last = last_network(make_convnet(), kept(networks))
    assert torch.equal(last(images), networks[-1].eval()(images))
    assert not any(parameter.requires_grad for parameter in last.parameters())


def test_the_principal_plane_holds_points_that_lie_on_one():
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(50, 2, generator=generator))[0].T
    points = torch.randn(20, 2, generator=generator) * torch.tensor([3.0, 1.0]) @ axes + 5
    plane = principal_plane(points)
    assert plane.explained == pytest.approx(1)
    places = torch.tensor(plane.places(points))
    torch.testing.assert_close(torch.cdist(places, places), torch.cdist(points, points), atol=1e-3, rtol=1e-3)
    off = principal_plane(points + torch.randn(20, 50, generator=generator))
    assert off.explained < 0.9
    with pytest.raises(ValueError, match="three points"):
        principal_plane(points[:2])


def test_arrows_are_what_poisons_change_in_the_weights():
    problem, start = make_problem(), make_convnet()
    path = path_of(start, kept([start, start, start]))
    unchanged = weight_paths(problem, problem.bases, start, path, path, PLAN, seed=0)
    assert [arrow["length"] for arrow in unchanged["arrows"]] == [0, 0]
    poisons = torch.zeros_like(problem.bases)
    pushed = weight_paths(problem, poisons, start, path, path, PLAN, seed=0)
    assert [arrow["epoch"] for arrow in pushed["arrows"]] == [1, 2]
    assert all(arrow["length"] > 0 for arrow in pushed["arrows"])
    doubled = weight_paths(
        problem, poisons, start, path, path, CraftingPlan(**{**vars(PLAN), "learning_rate": 1e-6}), seed=0
    )
    assert doubled["arrows"][0]["length"] < 1e-3 * pushed["arrows"][0]["length"]


def test_poisons_that_are_the_target_under_the_wanted_label_push_towards_it():
    problem, start = make_problem(), make_convnet()
    poisons = problem.targets.expand_as(problem.bases).contiguous()
    path = path_of(start, kept([start, start]))
    moved = Stack(weights={name: value.clone() for name, value in path.weights.items()}, buffers=path.buffers)
    for value in moved.weights.values():
        value[1] += 0.1
    (arrow,) = weight_paths(problem, poisons, start, path, moved, PLAN, seed=0)["arrows"]
    assert arrow["towards_wanted"] > 0.1
    assert -1 <= arrow["towards_poisoned"] <= 1


def test_collisions_are_nearer_to_the_target_than_the_images_they_are_made_of():
    problem = make_problem()
    network = make_convnet().eval().requires_grad_(False)
    features = {"clean": network.features}
    found = feature_distances(problem, problem.bases, features, bound=64 / 255)["clean"]
    assert found["bases"][QUANTILES.index(0.5)] == pytest.approx(1, abs=0.1)
    assert found["poisons"] == found["bases"]
    assert found["collisions"][-1] < found["bases"][0]
    own = problem.clean.of_class(0)
    twin = Problem(
        clean=ImageSet(images=problem.clean.images, labels=problem.clean.labels),
        poisons=problem.poisons,
        targets=own.images[:1],
        true_labels=torch.tensor([0]),
        labels=torch.tensor([1]),
        classes=CLASSES,
    )
    assert feature_distances(twin, problem.bases, features, bound=8 / 255)["clean"]["target's class"][0] < 1
