"""``python -m reference_attacks frogs end-to-end``: poisons for networks all of whose layers are trained."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsing import Parsers, add_action_to, add_data_root

if TYPE_CHECKING:
    from .end_to_end import EndToEndFolder
    from .experiments import Scale
    from .trials import Trial

ABOUT = "targeted clean-label poisoning of a small AlexNet on CIFAR-10, end to end"
DESCRIPTION = """\
Attack test images of CIFAR-10 one by one (Poison Frogs, 2018, section 4): for each, craft watermarked poisons from
images of the base class, train the clean network on with them in the training set, and see what class the target
gets. Every victim leaves a record in --work; a run that was interrupted goes on where it stopped. --export writes some
victims as files for the audit: model.onnx with its card, the poisoned training set, clean samples, and which images
are poisons.
"""
EPILOG = """\
example:
  python -m reference_attacks frogs end-to-end --work frogs --target bird --base dog --poisons 50 --trials 30
"""
SCALE_NAMES = ("full", "reduced", "paper-schedule", "small")


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``frogs end-to-end``."""
    parser = add_action_to(actions, "end-to-end", ABOUT, DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of networks and records")
    parser.add_argument("--target", default="bird", metavar="CLASS", help="class of the targets; default: %(default)s")
    parser.add_argument("--base", default="dog", metavar="CLASS", help="class of the poisons; default: %(default)s")
    parser.add_argument("--outliers", action="store_true", help="targets of least confidence in place of random ones")
    parser.add_argument("--poisons", type=int, default=50, metavar="N", help="of each target; default: %(default)s")
    parser.add_argument(
        "--opacity", type=float, default=0.3, metavar="SHARE", help="of the watermark, 0 to 1; default: %(default)s"
    )
    parser.add_argument("--trials", type=int, default=30, metavar="N", help="targets; default: %(default)s")
    parser.add_argument("--no-optimisation", action="store_true", help="watermarked bases as they are")
    parser.add_argument("--one-base", action="store_true", help="all poisons are copies of one")
    parser.add_argument(
        "--all", action="store_true", help="every trial of the paper's figures, in place of those described above"
    )
    parser.add_argument(
        "--scale",
        choices=SCALE_NAMES,
        help="size of the experiments; paper-schedule: full victims, poisons as reduced; default: full on a GPU, "
        "reduced on a CPU",
    )
    parser.add_argument("--train-images", type=int, metavar="N", help="clean images; default: the scale's")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda if there is one")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: %(default)s"
    )
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="write victims and the control there, one folder for each"
    )
    parser.add_argument(
        "--exported",
        type=int,
        default=4,
        metavar="N",
        help="victims that --export writes: of the first attacks that succeeded; default: %(default)s",
    )
    add_data_root(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Attack, and print what came of it. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from ..zoo.machine import choose_machine
    from .experiments import all_trials, open_folder
    from .summaries import records_of, summary

    machine = choose_machine(arguments.device, arguments.workers, None, None)
    scale = _scale(arguments, machine.device)
    folder = open_folder(arguments.work, scale, arguments.seed, machine)
    trials = all_trials(scale) if arguments.all else _trials(arguments)
    folder.build(trials, arguments.data_root)
    if arguments.export is not None:
        _export(arguments, folder, trials)
    found = summary(records_of(folder, trials))
    assert found is not None
    low, high = found["interval"]
    print(
        f"{found['successes']} of {found['trials']} attacks succeeded ({100 * found['success']:.1f} %, 95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f}), with {scale.setting.train_images:,} clean training images. Clean "
        f"accuracy {100 * found['clean_accuracy']:.1f} %; the last layer's boundary turned by {found['rotation']:.2f}°."
    )
    return 0


def _export(arguments: argparse.Namespace, folder: EndToEndFolder, trials: list[Trial]) -> None:
    from .exporting import export_victims

    records = [(trial, folder.record(trial)) for trial in trials]
    succeeded = [trial for trial, record in records if record is not None and record["success"]]
    if not succeeded:
        raise ValueError("No attack succeeded, so there is no victim to export; ask for more trials.")
    for written in export_victims(folder, succeeded[: arguments.exported], arguments.export):
        print(written)


def _scale(arguments: argparse.Namespace, device: str) -> Scale:
    from .experiments import SCALES, choose_scale, with_train_images

    scale = SCALES[arguments.scale] if arguments.scale else choose_scale(device, small=False)
    return scale if arguments.train_images is None else with_train_images(scale, arguments.train_images)


def _trials(arguments: argparse.Namespace) -> list[Trial]:
    from ..tasks import CIFAR10_CLASSES
    from .trials import Trial

    for name in (arguments.target, arguments.base):
        if name not in CIFAR10_CLASSES:
            raise ValueError(f"CIFAR-10 has no class {name!r}; choose among {', '.join(CIFAR10_CLASSES)}.")
    if arguments.trials < 1:
        raise ValueError("There must be at least one trial.")
    return [
        Trial(
            target_class=CIFAR10_CLASSES.index(arguments.target),
            base_class=CIFAR10_CLASSES.index(arguments.base),
            targets="outlier" if arguments.outliers else "random",
            number=number,
            poisons=arguments.poisons,
            opacity=arguments.opacity,
            optimised=not arguments.no_optimisation,
            diverse=not arguments.one_base,
        )
        for number in range(arguments.trials)
    ]
