"""``python -m reference_attacks frogs craft``: poisons as PNG files."""

from __future__ import annotations

import argparse
import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parsing import Parsers, add_action_to
from .options import (
    add_crafting_options,
    add_extractor_options,
    crafting_plan,
    crafting_words,
    extractor_words,
)

if TYPE_CHECKING:
    import torch

    from .crafting import Poisons
    from .sources import Source

DESCRIPTION = """\
Craft poisons: images that look like a base but have a target's features. Bases and targets
are drawn from the task's test images of two classes, or are all images of two folders in the order of their names (one
target may stand for all bases). --out gets NNNN.png of every poison, poisons.npz with bases, targets and measurements,
and card.json. PNG files lose nothing: what is measured is what is in them.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``frogs craft``."""
    parser = add_action_to(actions, "craft", "make poisons of bases and targets", DESCRIPTION)
    parser.add_argument("--target-class", required=True, metavar="CLASS", help="name, or number of a traffic sign")
    parser.add_argument("--base-class", required=True, metavar="CLASS", help="what the target shall be taken for")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="poisons; default: %(default)s")
    parser.add_argument("--target-images", type=Path, metavar="DIR", help="folder of targets, in place of drawn ones")
    parser.add_argument("--base-images", type=Path, metavar="DIR", help="folder of bases, in place of drawn ones")
    parser.add_argument(
        "--watermark",
        type=float,
        default=0.0,
        metavar="OPACITY",
        help="blend the target into the base first, as for end-to-end training (section 4.2); default: none",
    )
    add_extractor_options(parser)
    add_crafting_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder, or a new one")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Craft and write. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from rich.progress import Progress

    from .crafting import craft, watermarked
    from .sources import open_source

    _check(arguments)
    source = open_source(arguments, (arguments.target_class, arguments.base_class), print)
    targets, bases = _chosen(arguments, source)
    started = watermarked(bases, targets, arguments.watermark) if arguments.watermark else bases
    with Progress() as progress:
        bar = progress.add_task("Crafting", total=len(bases))
        poisons = craft(
            source.extractor.features,
            started,
            targets,
            crafting_plan(arguments),
            on_step=lambda finished: progress.update(bar, completed=finished),
        )
    _write(arguments, bases, targets, poisons)
    print(
        f"{len(bases)} poisons in {arguments.out}: median feature distance to the target "
        f"{float(poisons.distances.median()):.3g}, largest change of a pixel "
        f"{int((poisons.images.int() - bases.int()).abs().max())} of 255."
    )
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise ValueError(f"{arguments.out} is not empty; choose a folder for these poisons alone.")
    if arguments.count < 1:
        raise ValueError("There must be at least one poison.")


def _chosen(arguments: argparse.Namespace, source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and bases, uint8 ``(N, C, H, W)`` each, in the size that the extractor takes."""
    from ..zoo.seeds import derived_generator

    generator = derived_generator(arguments.seed, "frogs/craft")
    target_class, base_class = source.classes
    count = arguments.count
    folders = [folder for folder in (arguments.base_images, arguments.target_images) if folder is not None]
    if folders:
        count = max(len(_files(folder)) for folder in folders)
    targets = _images(source, arguments.target_images, target_class, count, generator)
    bases = _images(source, arguments.base_images, base_class, count, generator)
    if len(targets) == 1:
        targets = targets.expand_as(bases).contiguous()
    if len(targets) != len(bases):
        raise ValueError(f"There are {len(targets)} targets for {len(bases)} bases; give one target, or one for each.")
    return targets, bases


def _images(source: Source, folder: Path | None, label: int, count: int, generator: torch.Generator) -> torch.Tensor:
    import torch

    from ..data import ImageSet

    if folder is not None:
        # Read in the size and with the colours of the task's images, so that all are treated alike from here.
        images = _read(folder, source.test.images[0])
        return source.extractor.prepared(ImageSet(images=images, labels=torch.zeros(len(images)))).images
    candidates = source.test.of_class(label)
    chosen = candidates.take(torch.randperm(len(candidates), generator=generator)[:count])
    if len(chosen) < count:
        raise ValueError(f"There are only {len(chosen)} test images of the class; choose a smaller --count.")
    return source.extractor.prepared(chosen).images


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of images.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".ppm"})
    if not files:
        raise ValueError(f"{folder} holds no PNG, JPEG or PPM images.")
    return files


def _read(folder: Path, like: torch.Tensor) -> torch.Tensor:
    import numpy as np
    import torch
    from PIL import Image

    channels, height, width = like.shape
    images = []
    for path in _files(folder):
        with Image.open(path) as image:
            array = np.array(image.convert("L" if channels == 1 else "RGB").resize((width, height)))
        images.append(torch.from_numpy(array.reshape(height, width, channels)).permute(2, 0, 1))
    return torch.stack(images)


def _write(arguments: argparse.Namespace, bases: torch.Tensor, targets: torch.Tensor, poisons: Poisons) -> None:
    import numpy as np

    from pytest_backdoor.files import write_atomically

    from ..pictures import image_png

    for number, image in enumerate(poisons.images):
        write_atomically(arguments.out / f"{number:04}.png", image_png(image))
    arrays = {"bases": bases, "targets": targets, **vars(poisons)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: value.numpy() for name, value in arrays.items()})
    write_atomically(arguments.out / "poisons.npz", buffer.getvalue())
    write_atomically(arguments.out / "card.json", f"{json.dumps(_card(arguments, poisons), indent=1)}\n".encode())


def _card(arguments: argparse.Namespace, poisons: Poisons) -> dict[str, Any]:
    """What was done, for those who find the files."""
    from dataclasses import asdict

    from ..reproduce.machine import versions

    return {
        "attack": "Poison Frogs: targeted clean-label poisons by feature collision (Shafahi et al. 2018)",
        "warning": "Networks trained on these images may take the targets for the base class.",
        "command": _command(arguments),
        "label": arguments.base_class,
        "watermark": arguments.watermark,
        "plan": asdict(crafting_plan(arguments)),
        "extractor": "InceptionV3" if arguments.inception else f"{arguments.extractor_steps} steps",
        "versions": versions(),
        "poisons": [
            {"file": f"{number:04}.png", "distance": round(distance, 5), "iterations": iterations}
            for number, (distance, iterations) in enumerate(
                zip(poisons.distances.tolist(), poisons.iterations.tolist(), strict=True)
            )
        ],
    }


def _command(arguments: argparse.Namespace) -> str:
    """The command that makes the same poisons; of folders and files of images it has the names alone."""
    words = ["--target-class", arguments.target_class, "--base-class", arguments.base_class]
    for option in ("target_images", "base_images"):
        if (folder := getattr(arguments, option)) is not None:
            words += [f"--{option.replace('_', '-')}", folder.name]
    words += ["--count", str(arguments.count), "--watermark", str(arguments.watermark)]
    words += [*extractor_words(arguments), *crafting_words(arguments), "--out", arguments.out.name]
    return shlex.join(["python", "-m", "reference_attacks", "frogs", "craft", *words])
