"""``python -m reference_attacks metapoison export``: victims of finished trials as files for the audit."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..parsing import Parsers, add_action_to
from .craft_command import add_machine_options

DESCRIPTION = """\
Write victims of finished trials as files for the audit, one folder for each: model.onnx with its card model.json, which
"detection matrix" reads, and train.npz, clean.npz and poisons.json, which "detection training-data --folders" reads.
Victims are the first ones whose attack succeeded, at most one for each pair of targets and poisons, and as many clean
ones as --clean says. They are trained again, as they were.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``metapoison export``."""
    parser = add_action_to(actions, "export", "victims as files for the audit", DESCRIPTION)
    parser.add_argument("trials", type=Path, metavar="DIR", help="folder of trials, which holds setting.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets a folder for each victim")
    parser.add_argument("--victims", type=int, default=4, metavar="N", help="of poisons; default: %(default)s")
    parser.add_argument("--clean", type=int, default=1, metavar="N", help="clean ones; default: %(default)s")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="also write the clean training and test images here, the --task of a zoo build for a detector pack",
    )
    add_machine_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write, and print the folders. Raises ValueError where no attack succeeded."""
    from ..image_folder import write_image_folder
    from ..zoo.machine import choose_machine
    from .exporting import data_of, export_runs
    from .finished import choose_victims, open_finished

    machine = choose_machine(arguments.device, arguments.workers, None, arguments.precision)
    folder = open_finished(arguments.trials, machine)
    runs = choose_victims(arguments.trials, poisoned=arguments.victims, clean=arguments.clean)
    for written in export_runs(folder, runs, arguments.out):
        print(written)
    if arguments.images is not None:
        images = folder.images()
        write_image_folder(images.training, images.test, data_of(folder).class_names, arguments.images)
        print(arguments.images)
    return 0
