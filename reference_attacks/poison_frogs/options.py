"""Options that the actions of ``frogs`` share: images, feature extractor, crafting.

Imported for ``--help``: nothing here imports torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsing import add_data_root

if TYPE_CHECKING:
    from .crafting import CraftingPlan

LEVELS = 255


def add_extractor_options(parser: argparse.ArgumentParser) -> None:
    """Which images there are, and which network finds their features."""
    group = parser.add_argument_group("images and feature extractor")
    group.add_argument(
        "--task",
        required=True,
        metavar="TASK",
        help="cifar10, gtsrb, or an image folder with train/CLASS/ and test/CLASS/ in it",
    )
    group.add_argument(
        "--inception",
        type=Path,
        metavar="FILE",
        help="torchvision's weights of InceptionV3, for image folders such as classes of ImageNet; all images are "
        "resized to 299x299. Default: a small network, trained on the task's classes that are not in question",
    )
    group.add_argument(
        "--extractors",
        type=Path,
        default=Path("extractors"),
        metavar="DIR",
        help="folder of small networks; one that is missing is trained there; default: %(default)s",
    )
    group.add_argument(
        "--extractor-steps", type=int, default=1250, metavar="N", help="training steps of one; default: %(default)s"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    add_data_root(parser)


def add_crafting_options(parser: argparse.ArgumentParser) -> None:
    """How poisons are made."""
    group = parser.add_argument_group("crafting (algorithm 1)")
    group.add_argument("--iterations", type=int, default=1000, metavar="N", help="at most; default: %(default)s")
    likeness = group.add_mutually_exclusive_group()
    likeness.add_argument(
        "--similarity",
        type=float,
        default=0.25,
        metavar="B",
        help="the paper's β0: how much a poison looks like its base; default: %(default)s",
    )
    likeness.add_argument(
        "--bound",
        type=float,
        metavar="LEVELS",
        help="by how much a pixel may change, of 255 levels, in place of --similarity",
    )
    group.add_argument(
        "--stop-distance", type=float, metavar="D", help="a poison is finished once its features are as near"
    )
    group.add_argument(
        "--step-rule",
        choices=["polyak", "descent"],
        default="polyak",
        help="how long steps are: Polyak's rule, or as long as each lowers the objective; default: %(default)s",
    )
    group.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of the network in crafting; poisons are measured in float32; default: %(default)s",
    )
    group.add_argument("--batch", type=int, default=128, metavar="N", help="poisons at once; default: %(default)s")


def crafting_plan(arguments: argparse.Namespace) -> CraftingPlan:
    """The plan that the options amount to."""
    from .crafting import CraftingPlan

    return CraftingPlan(
        iterations=arguments.iterations,
        similarity=arguments.similarity,
        stop_distance=arguments.stop_distance,
        bound=None if arguments.bound is None else arguments.bound / LEVELS,
        batch=arguments.batch,
        step_rule=arguments.step_rule,
        precision=arguments.precision,
    )


def crafting_words(arguments: argparse.Namespace) -> list[str]:
    """The options of ``add_crafting_options`` that decide what is crafted, as words of a command."""
    words = ["--iterations", str(arguments.iterations), "--step-rule", arguments.step_rule]
    words += ["--precision", arguments.precision]
    likeness = "similarity" if arguments.bound is None else "bound"
    words += [f"--{likeness}", str(getattr(arguments, likeness))]
    if arguments.stop_distance is not None:
        words += ["--stop-distance", str(arguments.stop_distance)]
    return words


def extractor_words(arguments: argparse.Namespace) -> list[str]:
    """The options of ``add_extractor_options`` that decide, as words of a command; it names no folder."""
    words = ["--task", Path(arguments.task).name]
    if arguments.inception is not None:
        words += ["--inception", arguments.inception.name]
    else:
        words += ["--extractor-steps", str(arguments.extractor_steps)]
    return [*words, "--seed", str(arguments.seed)]
