"""``reversal benchmark`` and ``reversal-pairs``: trigger reversal by others, and side by side with ours."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parsing import add_action_to, add_subcommand

if TYPE_CHECKING:
    from ..parsing import Parsers

TOOL_NAMES = ("pytest-backdoor", "neural-cleanse", "reversal-pairs", "trojanzoo", "art")

BENCHMARK_DESCRIPTION = """\
Reverse triggers with several tools on the same test networks of a zoo and the same clean images, one thread each, and
write one table of times, image gradients, areas under the ROC curve and verdicts:

  pytest-backdoor  the reversal check's search
  neural-cleanse   Neural Cleanse as its authors published it
  reversal-pairs   the baseline of Universal Litmus Patterns (section 3.4.2)
  trojanzoo        TrojanZoo's Neural Cleanse, where trojanzoo and a matplotlib below 3.9 are installed
  art              ART's Neural Cleanse, where adversarial-robustness-toolbox and tensorflow are installed

With the published settings this takes a long time: Neural Cleanse may push a million images forwards and backwards for
each class of each network. Every finished pair of tool and network is kept in the work folder, so the command can be
interrupted and goes on where it stopped. Results of other settings, images, seeds or code of the tool are not reused.
"""

PAIRS_DESCRIPTION = """\
Attack all pairs of a source and a target class with a patch of known size (Universal Litmus Patterns, section 3.4.2,
"Baseline") on test networks of a zoo. The score of a network is the negative loss of its most successful pair; the
area under the ROC curve of clean against poisoned networks is printed. Finished networks are kept in the work folder
and not computed again.
"""


def add_parser(subparsers: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``reversal benchmark`` and ``reversal-pairs``."""
    actions = add_subcommand(subparsers, "reversal", "trigger reversal by several tools")
    benchmark = add_action_to(actions, "benchmark", "several tools side by side", BENCHMARK_DESCRIPTION)
    _add_common(benchmark)
    _add_settings(benchmark)
    benchmark.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .md file; a .json is put beside it"
    )
    benchmark.set_defaults(run=run)
    pairs = add_action_to(
        subparsers, "reversal-pairs", "the paper's baseline: attacks on all pairs of classes", PAIRS_DESCRIPTION
    )
    _add_common(pairs)
    _add_epochs(pairs)
    pairs.add_argument("--out", type=Path, metavar="FILE", help="a .md file to write too; a .json is put beside it")
    pairs.set_defaults(run=run_pairs)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--zoo", type=Path, required=True, metavar="DIR", help="folder of a finished zoo")
    parser.add_argument(
        "--networks",
        type=int,
        default=20,
        metavar="N",
        help="test networks, half clean and half poisoned, as far as there are; default: %(default)s",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=400,
        metavar="N",
        help="clean test images, equally many of each class (at least one); default: %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes of one thread each; more of them slow each other down, so leave it for times that count; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder of finished results; default: reversal-benchmark in the zoo's"
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tools", nargs="+", default=TOOL_NAMES, choices=TOOL_NAMES, metavar="NAME", help="default: all of them"
    )
    group = parser.add_argument_group("settings", "the defaults are the published ones; smaller ones are for a try")
    group.add_argument(
        "--steps",
        type=int,
        default=1000,
        metavar="N",
        help="at most, for each class, of neural-cleanse and art; default: %(default)s",
    )
    group.add_argument(
        "--mini-batches",
        type=int,
        default=31,
        metavar="N",
        help="of 32 images, in each step of neural-cleanse; default: %(default)s",
    )
    group.add_argument(
        "--loss",
        choices=["cross-entropy", "swapped"],
        default="cross-entropy",
        help="of neural-cleanse: the paper's, or what the authors' code minimises, whose arguments are in the wrong "
        "order; default: %(default)s",
    )
    group.add_argument(
        "--trojanzoo-images",
        type=int,
        metavar="N",
        help="images in each of its ten epochs, the same few again and again; default: as many as the task's training "
        "set has, which is its own default",
    )
    _add_epochs(group)


def _add_epochs(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--epochs",
        type=int,
        default=50,
        metavar="N",
        help="of reversal-pairs, over the source's images; the paper says only 'several'; default: %(default)s",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the table and print it. Raises ValueError or OSError with a sentence."""
    figures = _measured(
        arguments,
        tools=tuple(arguments.tools),
        steps=arguments.steps,
        mini_batches=arguments.mini_batches,
        loss=arguments.loss,
        trojanzoo_images=arguments.trojanzoo_images,
    )
    print(_written(figures, arguments.out, _command(arguments)))
    return 0


def run_pairs(arguments: argparse.Namespace) -> int:
    """Attack all pairs and print the AUC. Raises ValueError or OSError with a sentence."""
    from .benchmark_table import areas

    figures = _measured(arguments, tools=("reversal-pairs",))
    if arguments.out:
        _written(figures, arguments.out, _pairs_command(arguments))
    (tool,) = figures["tools"]
    for result in tool["results"]:
        details, (score,) = result["details"], result["statistics"].values()
        print(f"{result['network']}: {score:.4f}, from class {details['source']} to {details['target']}")
    (area,) = areas(tool["results"]).values()
    low, high = area["auc_95"]
    print(f"AUC {area['auc']:.3f} ({low:.3f} to {high:.3f}) on {len(tool['results'])} networks of {arguments.zoo}")
    return 0


def _measured(arguments: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    from .benchmark import ReversalPlan, measure

    if arguments.out and arguments.out.suffix != ".md":
        raise ValueError(f"{arguments.out} must be a .md file; the figures go to a .json file beside it.")
    if arguments.workers < 1:
        raise ValueError("There must be at least one worker.")
    plan = ReversalPlan(
        zoo=arguments.zoo,
        networks=arguments.networks,
        images=arguments.images,
        seed=arguments.seed,
        epochs=arguments.epochs,
        **settings,
    )
    return measure(plan, arguments.work or arguments.zoo / "reversal-benchmark", workers=arguments.workers)


def _written(figures: dict[str, Any], out: Path, command: str) -> str:
    """Write the figures beside those of other tasks and return the text."""
    from pytest_backdoor.files import write_atomically

    from .benchmark_table import as_markdown

    recorded = out.with_suffix(".json")
    earlier = json.loads(recorded.read_text(encoding="utf-8")) if recorded.exists() else {}
    together = earlier | {Path(figures["task"]).name: {**figures, "command": command}}
    text = as_markdown(together)
    write_atomically(recorded, f"{json.dumps(together, indent=1)}\n".encode())
    write_atomically(out, text.encode())
    return text


def _command(arguments: argparse.Namespace) -> str:
    """The command that repeats this, without the paths of the machine it ran on."""
    limited = f" --trojanzoo-images {arguments.trojanzoo_images}" if arguments.trojanzoo_images else ""
    return (
        f"python -m reference_attacks reversal benchmark {_common(arguments)} --tools {' '.join(arguments.tools)} "
        f"--steps {arguments.steps} --mini-batches {arguments.mini_batches} --loss {arguments.loss}{limited} "
        f"--epochs {arguments.epochs} --out {arguments.out.name}"
    )


def _pairs_command(arguments: argparse.Namespace) -> str:
    return (
        f"python -m reference_attacks reversal-pairs {_common(arguments)} --epochs {arguments.epochs} "
        f"--out {arguments.out.name}"
    )


def _common(arguments: argparse.Namespace) -> str:
    return (
        f"--zoo {arguments.zoo.name} --networks {arguments.networks} --images {arguments.images} "
        f"--seed {arguments.seed} --workers {arguments.workers}"
    )
