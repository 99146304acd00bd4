"""``python -m reference_attacks detection references``: what clean object detectors score, as a detector pack."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsing import add_action_to

if TYPE_CHECKING:
    from ..parsing import Parsers

DESCRIPTION = """\
Seek box patches on clean object detectors and write their scores as a detector pack, by which --backdoor-pack judges
other detectors of the same classes on photographs of the same kind. Detectors whose card (NAME.json) tells of a
backdoor are refused. A false-positive rate of 1 % needs 99 of them; with fewer the pack is written all the same, and a
scan says that they are too few. The command can be interrupted and goes on where it stopped.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``detection references``."""
    parser = add_action_to(actions, "references", "score clean object detectors for comparison", DESCRIPTION)
    parser.add_argument(
        "--detectors", type=Path, nargs="+", required=True, metavar="PATH", help="ONNX files, or folders of them"
    )
    parser.add_argument("--photographs", type=Path, required=True, metavar="PATH", help="a folder, or an .npz file")
    parser.add_argument("--out", type=Path, required=True, metavar="PACK", help="the pack to write, a .npz file")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where scores are kept; default: beside the pack")
    parser.add_argument("--name", help="name of the pack; default: that of its file")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score, write and say how many. Raises ValueError, OSError or SettingsError with a sentence."""
    from .object_references import make_object_pack

    names = " ".join(path.name for path in arguments.detectors)
    pack = make_object_pack(
        arguments.detectors,
        arguments.photographs,
        work=arguments.work or arguments.out.with_suffix(".scores"),
        name=arguments.name or arguments.out.stem,
        workers=arguments.workers,
        seed=arguments.seed,
        command=f"python -m reference_attacks detection references --detectors {names} --photographs "
        f"{arguments.photographs.name} --seed {arguments.seed} --out {arguments.out.name}",
    )
    pack.save(arguments.out)
    count = pack.built["detectors"]
    print(f"{arguments.out}: {count} clean detectors, smallest p-value {1 / (1 + count):.2g}")
    return 0
