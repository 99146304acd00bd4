"""Poisons of real images, crafted in the reduced size, against victims of other initialisations."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")

import torch

from reference_attacks.cli import main
from reference_attacks.metapoison.crafting import random_perturbation
from reference_attacks.metapoison.poison_files import read_poisons
from reference_attacks.metapoison.victims import Replaced, VictimTraining, train_victims
from reference_attacks.networks import make_network
from reference_attacks.training import predict
from reference_attacks.zoo.machine import choose_machine

VICTIMS = 4
IMAGES = ["--classes", "airplane,automobile,frog", "--train-images", "999"]
PAIR = ["--target-class", "frog", "--poison-class", "automobile"]


@pytest.mark.slow
def test_crafted_poisons_mislead_networks_that_are_trained_from_scratch_and_random_ones_do_not(tmp_path):
    if not (Path(os.environ.get("BACKDOOR_DATA_ROOT", "data")) / "cifar10").exists():
        pytest.skip("CIFAR-10 is not below $BACKDOOR_DATA_ROOT.")
    assert main(["metapoison", "craft", "--reduced", *IMAGES, *PAIR, "--out", str(tmp_path / "poisons")]) == 0
    file, _ = read_poisons(tmp_path / "poisons" / "poisons.npz", None)
    problem = file.problem
    random = random_perturbation(problem.bases, 16 / 255, torch.Generator().manual_seed(0))
    crafted, noise = (Replaced(images=images, indices=problem.poisons) for images in (file.images, random))
    numbers = [*range(VICTIMS), *range(VICTIMS)]
    networks = [make_network("small-convnet", (3, 32, 32), 3, seed=1000 + number) for number in numbers]
    train_victims(
        networks,
        problem.clean,
        [crafted] * VICTIMS + [noise] * VICTIMS,
        VictimTraining(network="small-convnet", epochs=40),
        [torch.Generator().manual_seed(number) for number in numbers],
        machine=choose_machine("cpu", 1, None, None),
    )
    taken_for = torch.cat([predict(network, problem.targets) for network in networks])
    success = (taken_for == problem.labels).view(2, VICTIMS).double().mean(1).tolist()
    assert success[0] >= success[1] + 0.5
