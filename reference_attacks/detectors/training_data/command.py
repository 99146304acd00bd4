"""``python -m reference_attacks detection training-data``: what the check of the training set finds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...parsing import add_action_to, add_data_root

if TYPE_CHECKING:
    from ...parsing import Parsers

DESCRIPTION = """\
Run the training-data check on training sets whose poisons are known, and on clean ones, and write how many of the
poisons are among the first 1 % and 5 % of each ranking, the p-value and the verdict. BadNets on digits are built here;
of networks that badnet mnist wrote (--models) the training set is made again, and --images of it are looked at. Other
sets are folders, one for each:

  FOLDER/model.onnx      the model that was trained on the set, or that is to look at it
  FOLDER/train.npz       x, y; or a folder train/CLASS/IMAGE.png
  FOLDER/clean.npz       clean samples with labels, if there are any; or a folder clean/
  FOLDER/poisons.json    {"title": "Poison Frogs", "poisons": [17, 912], "settings": {"input_range": [0, 1]}}

The command can be interrupted and goes on where it stopped.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``detection training-data``."""
    parser = add_action_to(actions, "training-data", "poisons that are found in training sets", DESCRIPTION)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where what was measured is kept")
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="for training-data.md and .json")
    parser.add_argument("--folders", type=Path, nargs="+", default=[], metavar="DIR", help="sets that others made")
    parser.add_argument("--models", type=Path, nargs="+", default=[], metavar="ONNX", help="networks of badnet mnist")
    parser.add_argument("--no-digits", action="store_true", help="leave out the digits")
    parser.add_argument(
        "--images", type=int, default=20_000, metavar="N", help="digits of a training set; default: %(default)s"
    )
    parser.add_argument("--steps", type=int, default=1200, metavar="N", help="of training; default: %(default)s")
    parser.add_argument(
        "--clean-seeds", type=int, default=5, metavar="N", help="clean networks of either kind; default: %(default)s"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    add_data_root(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and write. Raises ValueError, OSError, DataNotFoundError or SettingsError with a sentence."""
    from pytest_backdoor.files import write_atomically

    from ...reproduce.machine import machine, versions
    from .cases import digit_cases, read_folder, read_model
    from .measuring import Case, measure_cases
    from .text import as_markdown

    if not 1000 <= arguments.images <= 60_000 or min(arguments.steps, arguments.workers) < 1:
        raise ValueError("Give 1000 to 60000 images, and at least one step and one process.")
    cases: list[Case] = [read_folder(folder) for folder in arguments.folders]
    cases += [read_model(model, images=arguments.images) for model in arguments.models]
    if not arguments.no_digits:
        sizes = {"images": arguments.images, "steps": arguments.steps, "clean_seeds": arguments.clean_seeds}
        cases += digit_cases(**sizes, seed=arguments.seed)
    if not cases:
        raise ValueError("There is nothing to look at: leave out --no-digits, or name --models or --folders.")
    records = measure_cases(
        cases, arguments.work, data_root=arguments.data_root, seed=arguments.seed, workers=arguments.workers
    )
    results: dict[str, Any] = {
        "command": _command(arguments),
        "machine": machine(),
        "versions": versions(),
        "cases": records,
    }
    write_atomically(arguments.results / "training-data.json", f"{json.dumps(results, indent=1)}\n".encode())
    write_atomically(arguments.results / "training-data.md", as_markdown(results).encode())
    print(f"{arguments.results / 'training-data.md'}: {len(records)} training sets")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command that repeats this, without the paths of the machine it ran on."""
    digits = (
        "--no-digits"
        if arguments.no_digits
        else (f"--images {arguments.images} --steps {arguments.steps} --clean-seeds {arguments.clean_seeds}")
    )
    named = "".join(
        f" --{option} {' '.join(path.name for path in paths)}"
        for option, paths in (("models", arguments.models), ("folders", arguments.folders))
        if paths
    )
    return (
        f"python -m reference_attacks detection training-data {digits} --seed {arguments.seed}{named} "
        "--work work --results docs/results"
    )
