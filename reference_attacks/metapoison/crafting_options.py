"""Options of crafting that the actions of ``metapoison`` share. Imported for ``--help``: nothing here imports torch."""

from __future__ import annotations

import argparse
from dataclasses import replace

from .settings import LEVELS, REDUCED, CraftingPlan

OPTIONS = (
    "network",
    "surrogates",
    "epochs",
    "unroll",
    "steps",
    "batch",
    "learning_rate",
    "craft_rate",
    "bound",
    "objective",
    "looks",
    "statistics",
    "colour",
    "packed",
    "chunk",
    "checkpoint",
)
IN_LEVELS = ("craft_rate", "bound")
NO_MATTER = ("chunk", "checkpoint")


def add_crafting_options(parser: argparse.ArgumentParser) -> None:
    """How poisons are made."""
    group = parser.add_argument_group(
        "crafting (algorithm 1)", "Defaults are the published code's, or with --reduced what two CPU cores can do."
    )
    group.add_argument("--reduced", action="store_true", help="a small network, few surrogates and short trainings")
    group.add_argument("--network", metavar="NAME", help="of the surrogates: resnet-20, small-convnet, ...")
    group.add_argument("--surrogates", type=int, metavar="M", help="networks that the poisons are crafted on")
    group.add_argument("--epochs", type=int, metavar="T", help="after which a surrogate starts afresh")
    group.add_argument("--unroll", type=int, metavar="K", help="steps of training that are looked ahead")
    group.add_argument("--steps", type=int, metavar="N", help="craft steps, one epoch of every surrogate each")
    group.add_argument("--batch", type=int, metavar="N", help="images in a batch of the surrogates' training")
    group.add_argument("--learning-rate", type=float, metavar="R", help="of the surrogates")
    group.add_argument("--craft-rate", type=float, metavar="LEVELS", help="of Adam on the pixels, of 255 levels")
    group.add_argument("--bound", type=float, metavar="LEVELS", help="by how much a pixel may change, of 255 levels")
    group.add_argument("--objective", choices=("cross-entropy", "margin"), help="of the target's logits")
    group.add_argument(
        "--looks", choices=("every", "last"), help="at the target: after every unrolled step, or after the last one"
    )
    group.add_argument(
        "--statistics",
        choices=("running", "batch"),
        help="of batch normalisation when the target is looked at: running ones, or those of a batch with the target",
    )
    group.add_argument(
        "--colour", type=float, metavar="BOUND", help="of a smooth change of colours, 0.04 in the published code"
    )
    group.add_argument(
        "--packed",
        action=argparse.BooleanOptionalAction,
        help="batches with every class in its share, and poisons in few of them: faster where they are few",
    )
    group.add_argument("--chunk", type=int, metavar="N", help="surrogates at once; default: all on a GPU, 1 on a CPU")
    group.add_argument(
        "--checkpoint", action="store_true", default=None, help="compute unrolled steps twice: less memory, more time"
    )


def crafting_plan(arguments: argparse.Namespace) -> CraftingPlan:
    """The plan that the options amount to."""
    plan = REDUCED if arguments.reduced else CraftingPlan()
    given = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    return replace(plan, **{name: value / LEVELS if name in IN_LEVELS else value for name, value in given.items()})


def crafting_words(arguments: argparse.Namespace) -> list[str]:
    """The options as they would be typed again, without those that change only time and memory."""
    words = ["--reduced"] if arguments.reduced else []
    for name in OPTIONS:
        value = getattr(arguments, name)
        if name == "packed" and value is not None:
            words.append("--packed" if value else "--no-packed")
        elif value is not None and name not in NO_MATTER:
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return words
