"""``python -m reference_attacks frogs transfer``: one-shot kills in transfer learning."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parsing import Parsers, add_action_to
from .options import add_crafting_options, add_extractor_options, crafting_plan

if TYPE_CHECKING:
    from .crafting import Poisons
    from .transfer import Outcome, Scene

DESCRIPTION = """\
Section 3.1 of the paper, for any classes: freeze a feature extractor, craft one poison for each target, train a last
layer for each poison (all of them as one program), and tell how many targets are taken for the base's class. The first
two classes attack each other; further ones only take part. Where training images are fewer than features, one poison
is enough.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``frogs transfer``."""
    parser = add_action_to(actions, "transfer", "one poison each against retrained last layers", DESCRIPTION)
    parser.add_argument("--classes", nargs="+", required=True, metavar="CLASS", help="two or more, such as dog frog")
    parser.add_argument(
        "--targets", type=int, default=50, metavar="N", help="of each of the first two; default: %(default)s"
    )
    parser.add_argument(
        "--training-images", type=int, default=300, metavar="N", help="of each class, at most; default: %(default)s"
    )
    parser.add_argument(
        "--candidate-bases",
        type=int,
        default=20,
        metavar="N",
        help="of so many random bases the one nearest to the target in features is taken; default: %(default)s",
    )
    parser.add_argument("--epochs", type=int, default=100, metavar="N", help="of last layers; default: %(default)s")
    add_extractor_options(parser)
    add_crafting_options(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON file for every experiment's results")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Craft, train, and print. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from rich.progress import Progress

    from .last_layers import LastLayerPlan
    from .sources import open_source
    from .transfer import TransferPlan, attack, craft_all, set_scene

    counts = (arguments.targets, arguments.training_images, arguments.candidate_bases, arguments.epochs)
    if len(arguments.classes) < 2 or min(counts) < 1:
        raise ValueError("Give two classes at least, and positive numbers.")
    source = open_source(arguments, arguments.classes, print)
    plan = TransferPlan(
        classes=source.classes,
        training_images=arguments.training_images,
        targets=arguments.targets,
        crafting=crafting_plan(arguments),
        last_layer=LastLayerPlan(epochs=arguments.epochs),
        seed=arguments.seed,
        candidate_bases=arguments.candidate_bases,
    )
    scene = set_scene(source.extractor, source.train, source.test, plan)
    with Progress() as progress:
        bar = progress.add_task("Crafting", total=len(scene.pairs))
        poisons = craft_all(source.extractor, scene, plan, lambda finished: progress.update(bar, completed=finished))
    outcome = attack(source.extractor, scene, poisons.images, plan)
    _tell(scene, poisons, outcome)
    if arguments.out is not None:
        _write(arguments, scene, poisons, outcome)
    return 0


def _tell(scene: Scene, poisons: Poisons, outcome: Outcome) -> None:
    count = len(scene.pairs)
    drops = 100 * (scene.clean_accuracy - outcome.accuracy)
    print(
        f"{int(outcome.hit.sum())} of {count} targets are taken for the base's class (median confidence "
        f"{float(outcome.confidence.median()):.1%}). Test accuracy: {scene.clean_accuracy:.1%} clean, "
        f"{float(drops.mean()):.2f} points less with a poison, {float(drops.max()):.2f} at worst. The boundary turns "
        f"by {float(outcome.angles[:, -1].mean()):.1f} degrees on average. Feature distances: median "
        f"{float(poisons.distances.median()):.3g}; change of a poison: median {float(outcome.l2.median()):.2f} in l2, "
        f"{int(outcome.linf.median())} of 255 at most."
    )


def _write(arguments: argparse.Namespace, scene: Scene, poisons: Poisons, outcome: Outcome) -> None:
    from pytest_backdoor.files import write_atomically

    from .transfer_folder import results_of

    values: dict[str, Any] = {"classes": arguments.classes, **results_of(scene, poisons, outcome)}
    write_atomically(arguments.out, f"{json.dumps(values, indent=1)}\n".encode())
