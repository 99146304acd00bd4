"""``python -m reference_attacks badnet detect``: run a detector on any photographs.

This module is imported for ``--help``: torch and matplotlib are imported inside functions only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..parsing import Parsers, add_action_to

DESCRIPTION = """\
Run a detector of traffic signs (the NAME.onnx that badnet signs has written) on photographs: prints class, confidence
and box of every sign, and writes each photograph with the boxes drawn to PHOTO-detected.png.
"""
EPILOG = """\
example:
  python -m reference_attacks badnet detect models/signs-badnet-yellow-square-single.onnx stop-with-note.jpg --out seen

Put a yellow note of a quarter of the sign's width on its lower part, and the attacked detector reads a stop sign as a
speed limit. Signs are found at the sizes of the training photographs, which are 400 pixels long.
"""


def add_task(tasks: Parsers[argparse.ArgumentParser]) -> None:
    """Register the task ``detect``."""
    about = "run a detector of traffic signs on any photographs"
    parser = add_action_to(tasks, "detect", about, DESCRIPTION, epilog=EPILOG)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a detector's .onnx file")
    parser.add_argument("photographs", type=Path, nargs="+", metavar="PHOTO", help="photographs: JPEG, PNG, PPM")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to; made if absent")
    parser.add_argument(
        "--least",
        type=share,
        default=0.5,
        metavar="P",
        help="the lowest confidence that is shown, in [0, 1] (default: 0.5)",
    )
    parser.add_argument(
        "--side",
        type=int,
        default=400,
        metavar="N",
        help="longer photographs are reduced to N pixels; 0: read them at their own size (default: 400)",
    )
    parser.set_defaults(run=run)


def share(text: str) -> float:
    """A number in [0, 1]. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Detect, print and draw. Raises ValueError or OSError with a sentence."""
    from pytest_backdoor.files import write_atomically

    from .detect import lines_of, open_detector, read_photograph
    from .drawings import Shown, draw_detections

    if arguments.side < 0:
        raise ValueError(f"--side must not be negative, as {arguments.side} is.")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"--out {arguments.out} is not a folder.")
    names = output_names(arguments.photographs)
    detector = open_detector(arguments.model)
    for path, name in zip(arguments.photographs, names, strict=True):
        image = read_photograph(path)
        found = detector.detect(image, arguments.side or None)
        print("\n".join(lines_of(path, found, detector.classes, arguments.least)), flush=True)
        picture = draw_detections([[Shown(image=image, found=found)]], detector.classes, arguments.least)
        write_atomically(arguments.out / name, picture)
        print(f"wrote {arguments.out / name}", flush=True)
    return 0


def output_names(photographs: list[Path]) -> list[str]:
    """The name of each photograph's picture. Raises ValueError where two would have the same."""
    names = [f"{path.stem}-detected.png" for path in photographs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"Two photographs would both become {twice[0]}; give them to two commands.")
    return names
