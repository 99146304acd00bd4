"""MetaPoison's poisons and victims as files, and the commands that read and write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from frog_sets import write_cifar10  # noqa: E402
from made_up_metapoison import make_trial  # noqa: E402

from reference_attacks.metapoison.images import choose_images  # noqa: E402
from reference_attacks.metapoison.poison_files import DataChoice, PoisonFile, read_poisons, write_poisons  # noqa: E402
from reference_attacks.metapoison.trials import make_problem  # noqa: E402
from reference_attacks.tasks import load_task  # noqa: E402

DATA = DataChoice(classes=(4, 1, 7), train_images=18, seed=5)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return write_cifar10(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def poisons_path(data_root, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("poisons") / "poisons.npz"
    write_poisons(make_poisons(data_root), path)
    return path


def make_poisons(data_root: str) -> PoisonFile:
    """Two poisons of class 1, of pixels that are eight levels brighter."""
    trial, numbers = make_trial(budget=0.12), torch.tensor([8])
    images = choose_images(*load_task("cifar10", data_root), DATA.classes, DATA.train_images, DATA.seed)
    problem = make_problem(trial, images.training, images.test, numbers, len(DATA.classes))
    return PoisonFile(
        trial=trial,
        data=DATA,
        problem=problem,
        images=(problem.bases.int() + 8).clamp(max=255).to(torch.uint8),
        target_numbers=numbers,
    )


def test_chosen_images_are_labelled_by_the_places_of_their_classes(data_root):
    train, test = load_task("cifar10", data_root)
    images = choose_images(train, test, DATA.classes, DATA.train_images, DATA.seed)
    assert images.training.labels.bincount().tolist() == [6, 6, 6]
    assert images.test.of_class(2).images.equal(test.of_class(7).images)


def test_poisons_are_read_with_their_training_set(poisons_path, data_root):
    written = make_poisons(data_root)
    found, images = read_poisons(poisons_path, data_root)
    assert found.trial == written.trial
    assert found.images.equal(written.images)
    assert found.problem.poisons.equal(written.problem.poisons)
    assert images.training.images[found.problem.poisons].equal(written.problem.bases)
    assert images.test.images[8].equal(found.problem.targets[0])
    with np.load(poisons_path, allow_pickle=False) as arrays:
        assert (arrays["label"], arrays["wanted_labels"].tolist(), arrays["target_labels"].tolist()) == (1, [1], [0])


def test_poisons_of_other_images_are_refused(poisons_path, data_root, tmp_path):
    other = write_cifar10(tmp_path / "data", train=9)
    with pytest.raises(ValueError, match="other images than the data root holds"):
        read_poisons(poisons_path, other)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="holds no poisons of metapoison craft"):
        read_poisons(tmp_path / "other.npz", data_root)
