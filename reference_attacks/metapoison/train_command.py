"""``python -m reference_attacks metapoison train``: victims of given poisons, from scratch."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsing import Parsers, add_action_to, add_data_root
from .craft_command import add_machine_options

if TYPE_CHECKING:
    from ..zoo.machine import Machine
    from .victims import VictimTraining

DESCRIPTION = """\
Train networks from scratch, from initialisations that the poisons' surrogates did not have, on the training set that a
file of poisons is about. --arm says what takes the place of the perturbed images: the poisons, nothing, or random
perturbations of the same size. Every victim gets a folder in --out: model.onnx, model.safetensors and the card
model.json; train.npz, clean.npz and poisons.json, for the audit of the training set; and targets.npz. What is there
already is left alone.
"""
EPILOG = """\
example:
  python -m reference_attacks metapoison train --poisons poisons/poisons.npz --out victims
  python -m reference_attacks metapoison train --poisons poisons/poisons.npz --arm clean --out victims
  python -m reference_attacks metapoison evaluate victims
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``metapoison train``."""
    parser = add_action_to(actions, "train", "train victims from scratch", DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--poisons", type=Path, required=True, metavar="FILE", help="poisons.npz of metapoison craft")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets a folder for each victim")
    parser.add_argument(
        "--arm", choices=("poisoned", "clean", "random"), default="poisoned", help="default: %(default)s"
    )
    parser.add_argument("--victims", type=int, default=4, metavar="N", help="default: %(default)s")
    _add_training_options(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    add_machine_options(parser)
    add_data_root(parser)
    parser.set_defaults(run=run)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training", "the learning rate is divided by ten after 40, 60 and 80 % of it")
    group.add_argument(
        "--network", metavar="NAME", help="architecture; default: resnet-20 on a GPU, small-convnet on a CPU"
    )
    group.add_argument("--epochs", type=int, default=100, metavar="N", help="default: %(default)s")
    group.add_argument("--batch", type=int, default=125, metavar="N", help="images; default: %(default)s")
    group.add_argument("--learning-rate", type=float, default=0.1, metavar="RATE", help="of SGD; default: %(default)s")
    group.add_argument("--momentum", type=float, default=0.9, metavar="SHARE", help="default: %(default)s")
    group.add_argument("--weight-decay", type=float, default=0.0, metavar="RATE", help="default: %(default)s")
    group.add_argument("--shift", type=int, default=0, metavar="PIXELS", help="move images by at most that much")
    group.add_argument("--flip", action="store_true", help="mirror half of the images")


def run(arguments: argparse.Namespace) -> int:
    """Train, write and print. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from dataclasses import replace
    from functools import partial

    import torch

    from ..parallel import work_off
    from ..victim_files import is_written
    from ..zoo.machine import choose_machine
    from .cases import Case, perturbed
    from .evaluating import as_text, evaluate
    from .exporting import Order, train_and_write
    from .poison_files import read_poisons
    from .runs import VictimRun, as_jobs, grouped

    machine = choose_machine(arguments.device, arguments.workers, None, arguments.precision)
    training = _training(arguments, machine)
    file, images = read_poisons(arguments.poisons, arguments.data_root)
    trial = replace(file.trial, arm=arguments.arm)
    case = Case(
        problem=file.problem,
        targets=file.target_numbers,
        poisons=perturbed(trial, file.problem, file.images, arguments.seed),
        judged=~torch.isin(torch.arange(len(images.test)), file.target_numbers),
    )
    runs = [VictimRun(trial=trial, number=number) for number in range(arguments.victims)]
    missing = [one for one in runs if not is_written(one.name, arguments.out)]
    order = Order(
        case=case,
        training=training,
        data=file.data,
        validation=images.test,
        seed=arguments.seed,
        machine=machine,
        out=arguments.out,
        command=_command(arguments, training, machine),
    )
    groups = grouped(as_jobs(missing), machine.group)
    work_off(partial(train_and_write, order), groups, workers=machine.workers, description="Training victims")
    print(as_text([one for found in runs for one in evaluate(arguments.out / found.name)], each=True))
    return 0


def _training(arguments: argparse.Namespace, machine: Machine) -> VictimTraining:
    from .victims import VictimTraining

    if min(arguments.victims, arguments.epochs, arguments.batch) < 1:
        raise ValueError("Give at least one victim, one epoch and one image of a batch.")
    return VictimTraining(
        network=arguments.network or ("small-convnet" if machine.device == "cpu" else "resnet-20"),
        epochs=arguments.epochs,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
        shift=arguments.shift,
        flip=arguments.flip,
    )


def _command(arguments: argparse.Namespace, training: VictimTraining, machine: Machine) -> str:
    """The command that repeats this, without the paths of the machine it ran on."""
    words = ["python", "-m", "reference_attacks", "metapoison", "train", "--poisons", arguments.poisons.name]
    words += ["--arm", arguments.arm, "--victims", str(arguments.victims), "--network", training.network]
    for name in ("epochs", "batch", "learning_rate", "momentum", "weight_decay", "shift"):
        words += [f"--{name.replace('_', '-')}", f"{getattr(training, name):g}"]
    words += ["--flip"] if training.flip else []
    words += ["--precision", machine.precision]
    return shlex.join([*words, "--seed", str(arguments.seed), "--out", arguments.out.name])
