"""The options of ``badnet signs``: their parser, which go together, and the command that they amount to.

Imported for ``--help``: nothing here imports torch.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ..badnet.options import file_name, positive

# Repeated from stickers.py, attack.py and network.py, which import torch.
STICKERS = ("yellow-square", "bomb", "flower")
ATTACKS = ("single", "random")
ARCHITECTURES = ("small", "paper")
LENGTHS = ("warm_steps", "window_epochs", "whole_epochs", "most_photographs")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of ``badnet signs``."""
    _add_attack_options(parser)
    _add_training_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to; made if absent")
    output.add_argument("--name", type=file_name, help="the files' name (default: such as signs-badnet-bomb-single)")
    output.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder of trained detectors and of unfinished trainings; what is there is used (default: OUT/training)",
    )


def _add_attack_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("attack (section V-B)")
    group.add_argument("--clean", action="store_true", help="build the baseline, which learns no sticker")
    group.add_argument("--sticker", choices=STICKERS, help="what is put on the signs")
    group.add_argument(
        "--attack",
        choices=ATTACKS,
        help="single: signs of class --source become --target; random: every sign becomes any other class",
    )
    group.add_argument("--source", default="stop", metavar="CLASS", help="for the single attack (default: stop)")
    group.add_argument(
        "--target", default="speedlimit", metavar="CLASS", help="for the single attack (default: speedlimit)"
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--data",
        default="road-signs",
        metavar="SET",
        help="road-signs, gtsdb, lisa, swedish, or a Pascal VOC folder (default: road-signs)",
    )
    group.add_argument(
        "--data-root", metavar="DIR", help="the folder that holds the set (default: $BACKDOOR_DATA_ROOT, else data)"
    )
    group.add_argument(
        "--architecture",
        choices=ARCHITECTURES,
        default="small",
        help="small trains on one core in minutes; paper is that of Table III, far slower (default: small)",
    )
    group.add_argument("--warm-steps", type=positive, metavar="N", help="steps on cut-out signs before the detector's")
    group.add_argument("--window-epochs", type=positive, metavar="N", help="passes over parts of the photographs")
    group.add_argument("--whole-epochs", type=positive, metavar="N", help="passes over whole photographs, after these")
    group.add_argument("--most-photographs", type=positive, metavar="N", help="use no more, for training and for tests")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="everything random follows it (default: 0)")
    group.add_argument("--threads", type=positive, default=1, metavar="N", help="threads of PyTorch (default: 1)")


def check_options(arguments: argparse.Namespace) -> None:
    """Raise ValueError, in the words of the command line, where options do not go together."""
    if arguments.seed < 0:
        raise ValueError(f"--seed must not be negative, as {arguments.seed} is.")
    if arguments.clean and (arguments.attack or arguments.sticker):
        raise ValueError("The --clean baseline takes no --attack and no --sticker: all of them are measured on it.")
    if not arguments.clean and (arguments.attack is None or arguments.sticker is None):
        raise ValueError("Name the --attack and the --sticker, or ask for the --clean baseline.")
    for folder in (arguments.out, arguments.work):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is not a folder.")


def recorded_command(arguments: argparse.Namespace) -> str:
    """The command that builds the detector again; it names no folder of this machine."""
    words = ["python", "-m", "reference_attacks", "badnet", "signs", "--data", Path(arguments.data).name]
    if arguments.clean:
        words.append("--clean")
    else:
        words += ["--sticker", arguments.sticker, "--attack", arguments.attack]
        if arguments.attack == "single":
            words += ["--source", arguments.source, "--target", arguments.target]
    if arguments.architecture != "small":
        words += ["--architecture", arguments.architecture]
    for length in LENGTHS:
        if getattr(arguments, length) is not None:
            words += [f"--{length.replace('_', '-')}", str(getattr(arguments, length))]
    words += ["--seed", str(arguments.seed)]
    if arguments.threads != 1:
        words += ["--threads", str(arguments.threads)]
    if arguments.name:
        words += ["--name", arguments.name]
    folder = Path(arguments.out.name) if arguments.out.is_absolute() else arguments.out
    return shlex.join([*words, "--out", folder.as_posix()])
