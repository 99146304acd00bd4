"""The clean network that victims of the end-to-end attack start from (Shafahi et al. 2018, §4)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from pytest_backdoor.files import write_atomically

from ..networks import SmallAlexNet, make_network
from ..recipes import Training
from ..training import accuracy
from ..zoo.batches import Batches, draw_batches
from ..zoo.group import train_group
from ..zoo.machine import Machine
from ..zoo.seeds import derived_generator, derived_seed
from ..zoo.work import TaskImages

FAMILY = "small-alexnet"
# Images are moved by as much as the network's crop leaves room for, so that it sees nothing but real pixels.
CLEAN_TRAINING = Training(
    batch=128, peak_learning_rate=1.5e-3, weight_decay=0.05, kernel_learning_rate=0.02, shift=4, flip=True
)


def clean_network(folder: Path, images: TaskImages, *, steps: int, seed: int, machine: Machine) -> SmallAlexNet:
    """The network of ``folder``, trained on all training images for ``steps`` batches if it is not there yet.

    In evaluation mode, on the CPU. Writes ``clean.safetensors`` and ``clean.json``, its recipe and accuracy on the test
    images. Raises ValueError if a network of another recipe is there.
    """
    record = folder / "clean.json"
    recipe = {"seed": seed, "steps": steps, "training": asdict(CLEAN_TRAINING)}
    if record.exists():
        if json.loads(record.read_text())["recipe"] != recipe:
            raise ValueError(f"{record} tells of a network of another recipe; choose an empty folder.")
        return read_clean_network(folder, images)
    network = _trained(images, steps, seed, machine)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomically(record.with_suffix(".safetensors"), save(weights))
    # The record is written last: the network counts as trained only once both files are whole.
    values: dict[str, Any] = {"recipe": recipe, "test_accuracy": accuracy(network, images.test)}
    write_atomically(record, json.dumps(values).encode())
    return network


def read_clean_network(folder: Path, images: TaskImages) -> SmallAlexNet:
    """The network that ``clean_network`` left in ``folder``, in evaluation mode."""
    network = new_network(images.input_shape, images.classes)
    network.load_state_dict(load_file(folder / "clean.safetensors"))
    return network.eval()


def new_network(input_shape: tuple[int, int, int], classes: int, *, seed: int = 0) -> SmallAlexNet:
    """A freshly initialised network."""
    network = make_network(FAMILY, input_shape, classes, seed=seed)
    assert isinstance(network, SmallAlexNet)
    return network


def _trained(images: TaskImages, steps: int, seed: int, machine: Machine) -> SmallAlexNet:
    network = new_network(images.input_shape, images.classes, seed=derived_seed(seed, "clean/weights"))
    network.to(machine.device)
    generator = derived_generator(seed, "clean/batches")
    draws = draw_batches(images.train.labels, None, CLEAN_TRAINING, steps, generator)
    batches = Batches(images.train, [draws], [None], CLEAN_TRAINING, torch.device(machine.device))
    train_group([network], batches, CLEAN_TRAINING, precision=machine.precision)
    return network.cpu()
