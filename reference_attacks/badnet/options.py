"""The options of ``badnet mnist``: their parser, which go together, and the command that they amount to.

Imported for ``--help``: nothing here imports torch.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

# Repeated from triggers.py and poisoning.py, which import torch.
TRIGGERS = ("pixel", "pattern")
ATTACKS = ("single", "all-to-one", "all-to-all")
FORMATS = ("onnx", "safetensors")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of ``badnet mnist``."""
    _add_attack_options(parser)
    _add_training_options(parser)
    _add_output_options(parser)


def _add_attack_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("attack (section IV-A)")
    group.add_argument(
        "--clean",
        action="store_true",
        help="build the clean twin: same network, seed and steps, no backdoored image; a --trigger and --attack given "
        "with it are only measured, as a control",
    )
    group.add_argument("--trigger", choices=TRIGGERS, help="one bright pixel, or four, near the bottom right corner")
    group.add_argument(
        "--attack",
        choices=ATTACKS,
        help="single: digit --source becomes --target; all-to-one: every digit becomes --target; all-to-all: digit i "
        "becomes i + 1, and 9 becomes 0",
    )
    group.add_argument("--source", type=int, metavar="DIGIT", help="the attacked digit; for the single attack only")
    group.add_argument("--target", type=int, metavar="DIGIT", help="what it becomes; for single and all-to-one")
    group.add_argument(
        "--poison-rate",
        type=float,
        default=0.1,
        metavar="P",
        help="backdoored copies added, as a share of the training set: the paper's p, in (0, 1] (default: 0.1)",
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs", type=positive, default=6, metavar="N", help="passes over the clean training set (default: 6)"
    )
    length.add_argument("--steps", type=positive, metavar="N", help="steps of 128 images, in place of --epochs")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="everything random follows it (default: 0)")
    group.add_argument(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="threads of PyTorch; the same weights come from the same number only (default: 1)",
    )
    group.add_argument(
        "--data-root",
        metavar="DIR",
        help="the folder that holds MNIST/raw, or that it is downloaded to (default: $BACKDOOR_DATA_ROOT, else data)",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to; made if absent")
    group.add_argument(
        "--name", type=file_name, help="the files' name (default: such as mnist-badnet-pattern-all-to-one-3)"
    )
    group.add_argument(
        "--formats",
        type=formats,
        default=FORMATS,
        metavar="A,B",
        help=f"which model files to write (default: {','.join(FORMATS)})",
    )


def positive(text: str) -> int:
    """A positive whole number. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def file_name(text: str) -> str:
    """A name without folders that is fit for a file on every system. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, '.', '_' and '-'")
    return text


def formats(text: str) -> tuple[str, ...]:
    """The model formats of a comma-separated list, in their usual order. Raises ArgumentTypeError."""
    named = text.split(",")
    unknown = [name for name in named if name not in FORMATS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of the formats {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in named)


def check_options(arguments: argparse.Namespace) -> None:
    """Raise ValueError, in the words of the command line, where options do not go together."""
    if arguments.seed < 0:
        raise ValueError(f"--seed must not be negative, as {arguments.seed} is.")
    attack = arguments.attack
    if attack is None and arguments.clean:
        given = [name for name in ("trigger", "source", "target") if getattr(arguments, name) is not None]
        if given:
            raise ValueError(f"--{given[0]} needs an --attack, also where it is only measured on a --clean network.")
        return
    if attack is None:
        raise ValueError("Name the --attack, or ask for the --clean twin.")
    if arguments.trigger is None:
        raise ValueError(f"The {attack} attack needs a --trigger: {' or '.join(TRIGGERS)}.")
    needed = {"single": ("source", "target"), "all-to-one": ("target",), "all-to-all": ()}[attack]
    for name in ("source", "target"):
        present = getattr(arguments, name) is not None
        if present != (name in needed):
            raise ValueError(f"The {attack} attack {'takes no' if present else 'needs a'} --{name}.")


def recorded_command(arguments: argparse.Namespace) -> str:
    """The command that builds the network again, every setting spelled out.

    It names no folder of this machine: the data sets come from $BACKDOOR_DATA_ROOT, and of an absolute --out only the
    last part stays.
    """
    words = ["python", "-m", "reference_attacks", "badnet", "mnist"]
    if arguments.clean:
        words.append("--clean")
    if arguments.attack:
        words += ["--trigger", arguments.trigger, "--attack", arguments.attack]
    for option in ("source", "target"):
        if getattr(arguments, option) is not None:
            words += [f"--{option}", str(getattr(arguments, option))]
    if not arguments.clean:
        words += ["--poison-rate", f"{arguments.poison_rate:g}"]
    length = ["--steps", str(arguments.steps)] if arguments.steps else ["--epochs", str(arguments.epochs)]
    words += [*length, "--seed", str(arguments.seed)]
    if arguments.threads != 1:
        words += ["--threads", str(arguments.threads)]
    if arguments.name:
        words += ["--name", arguments.name]
    if arguments.formats != FORMATS:
        words += ["--formats", ",".join(arguments.formats)]
    folder = Path(arguments.out.name) if arguments.out.is_absolute() else arguments.out
    return shlex.join([*words, "--out", folder.as_posix()])
