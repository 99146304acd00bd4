"""``python -m reference_attacks detection crops``: the image folder for zoos of detectors' heads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsing import add_action_to, add_data_root

if TYPE_CHECKING:
    from ..parsing import Parsers

DESCRIPTION = """\
Cut signs and background out of photographs and write them as an image folder, train/CLASS/IMAGE.png and
test/CLASS/IMAGE.png of 64x64 pixels: the task of a traffic-sign detector's head (NAME-head.onnx). A zoo on it gives a
detector pack for heads:

  python -m reference_attacks detection crops --out crops
  python -m reference_attacks zoo build --task crops --families sign-head --steps 200 --triggers patch16 --out zoo
  python -m reference_attacks litmus fit --zoo zoo --name sign-heads --out sign-heads.npz
  pytest --backdoor-scan NAME-head.onnx --backdoor-pack sign-heads.npz --backdoor-data crops/test

Training and held-out photographs are those of badnet signs with the same data and seed.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``detection crops``."""
    parser = add_action_to(actions, "crops", "cut-out signs as an image folder", DESCRIPTION)
    parser.add_argument("--data", default="road-signs", metavar="NAME", help="as for badnet signs; default: road-signs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--train", type=int, default=600, metavar="N", help="crops of each class; default: %(default)s")
    parser.add_argument("--test", type=int, default=120, metavar="N", help="the same to test on; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    add_data_root(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from ..traffic_signs.crops import CropPlan, write_crops
    from ..traffic_signs.recipe import SignRecipe, read_data

    if min(arguments.train, arguments.test) < 1:
        raise ValueError("Each class needs at least one crop to train and one to test on.")
    data = read_data(SignRecipe(data=arguments.data, seed=arguments.seed), arguments.data_root)
    plan = CropPlan(train=arguments.train, test=arguments.test, seed=arguments.seed)
    counts = write_crops(data.training, data.held_out, plan, arguments.out)
    print(f"{arguments.out}: {counts['train']} crops to train on, {counts['test']} to test on")
    return 0
