"""``python -m reference_attacks metapoison craft``: poisons as files."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parsing import Parsers, add_action_to, add_data_root
from .crafting_options import add_crafting_options, crafting_plan, crafting_words

if TYPE_CHECKING:
    from ..zoo.recipe import Precision
    from .choosing import Chosen
    from .crafting import Crafted, CraftStep
    from .settings import CraftingPlan

PROGRESS = "progress"
DESCRIPTION = """\
Craft poisons (MetaPoison, 2020, section 2): training images of one class of CIFAR-10, changed so little that nobody
sees it, which make networks that are trained on them from scratch take a test image of another class for the wanted
one. The target is one that a clean network classifies correctly. --out gets NNNN.png of every poison, poisons.npz,
which train and evaluate read, and card.json. A run that was interrupted goes on from its last craft step when it is
started again. The processes of --workers share the surrogates; under torchrun its processes do.
"""
EPILOG = """\
examples:
  python -m reference_attacks metapoison craft --reduced --classes airplane,frog,ship --train-images 1000 \\
      --target-class frog --poison-class ship --out poisons
  torchrun --nproc-per-node 8 -m reference_attacks metapoison craft --target-class bird --poison-class dog --out poisons
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``metapoison craft``."""
    parser = add_action_to(actions, "craft", "make poisons for targets", DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--target-class", required=True, metavar="CLASS", help="of the targets, such as bird")
    parser.add_argument("--poison-class", required=True, metavar="CLASS", help="of the images that are changed")
    parser.add_argument(
        "--wanted-class", metavar="CLASS", help="what targets shall be taken for; default: the poisons' class"
    )
    parser.add_argument("--classes", metavar="LIST", help="classes of the training set, by commas; default: all ten")
    parser.add_argument(
        "--train-images", type=int, default=50_000, metavar="N", help="as many of each class; default: %(default)s"
    )
    parser.add_argument(
        "--budget", type=float, default=10.0, metavar="PERCENT", help="of the training set; default: %(default)s"
    )
    parser.add_argument("--targets", type=int, default=1, metavar="N", help="at once; default: %(default)s")
    parser.add_argument(
        "--pair", type=int, default=0, metavar="N", help="another number is another target; default: %(default)s"
    )
    parser.add_argument(
        "--reference-epochs",
        type=int,
        default=20,
        metavar="N",
        help="training of the clean network that targets have to be classified correctly by; default: %(default)s",
    )
    add_crafting_options(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    add_machine_options(parser)
    add_data_root(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder, or a new one")
    parser.set_defaults(run=run)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """What it is computed with."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda if there is one")
    group.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="default: bfloat16 where the hardware multiplies it"
    )
    group.add_argument("--workers", type=int, metavar="N", help="processes; default: one for each core or GPU")


def run(arguments: argparse.Namespace) -> int:
    """Craft and write. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    import shutil
    import time

    from rich.progress import Progress

    from ..zoo.machine import choose_machine
    from .choosing import choose_trial
    from .workers import craft_together, is_first_process

    out, plan = arguments.out, crafting_plan(arguments)
    if out.exists() and any(entry.name != PROGRESS for entry in out.iterdir()):
        raise ValueError(f"{out} is not empty; choose a folder for these poisons alone.")
    machine = choose_machine(arguments.device, arguments.workers, 1, arguments.precision)
    with Progress(disable=not is_first_process()) as progress:
        bar = progress.add_task("Choosing a target", total=plan.steps)
        chosen = choose_trial(arguments, plan, machine)
        started = time.perf_counter()

        def on_step(step: int, seen: CraftStep) -> None:
            words = f"Crafting, success with the surrogates {seen.success:.0%}"
            progress.update(bar, completed=step, description=words)

        crafted = craft_together(
            chosen.problem,
            plan,
            seed=arguments.seed,
            workers=min(machine.workers, plan.surrogates),
            folder=out / PROGRESS,
            device=machine.device,
            precision=machine.precision,
            on_step=on_step,
        )
    if not is_first_process():
        return 0
    done = _Done(chosen=chosen, crafted=crafted, seconds=time.perf_counter() - started, precision=machine.precision)
    _write(arguments, plan, done)
    shutil.rmtree(out / PROGRESS)
    changed = (crafted.images.int() - chosen.problem.bases.int()).abs()
    print(
        f"{len(crafted.images)} poisons in {out} after {done.seconds:.0f} s: largest change of a pixel "
        f"{int(changed.max())} of 255, success with the surrogates "
        f"{crafted.history[-1].success:.0%} (after the unrolled steps)."
    )
    return 0


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What was chosen and crafted, in how many seconds since the last start, computed with which precision."""

    chosen: Chosen
    crafted: Crafted
    seconds: float
    precision: Precision


def _write(arguments: argparse.Namespace, plan: CraftingPlan, done: _Done) -> None:
    from pytest_backdoor.files import write_atomically

    from ..pictures import image_png
    from .poison_files import PoisonFile, write_poisons

    chosen, crafted = done.chosen, done.crafted
    for number, image in enumerate(crafted.images):
        write_atomically(arguments.out / f"{number:04}.png", image_png(image))
    file = PoisonFile(
        trial=chosen.trial,
        data=chosen.data,
        problem=chosen.problem,
        images=crafted.images,
        target_numbers=chosen.target_numbers,
    )
    card = _card(arguments, plan, done)
    write_atomically(arguments.out / "card.json", f"{json.dumps(card, indent=1)}\n".encode())
    write_poisons(file, arguments.out / "poisons.npz")


def _card(arguments: argparse.Namespace, plan: CraftingPlan, done: _Done) -> dict[str, Any]:
    """What was done, for those who find the files."""
    from ..reproduce.machine import machine, versions

    chosen, wanted = done.chosen, arguments.wanted_class or arguments.poison_class
    return {
        "attack": "MetaPoison: targeted clean-label poisons for networks trained from scratch (Huang et al. 2020)",
        "warning": f"Networks trained on these images may take the targets for {wanted}.",
        "command": shlex.join(_words(arguments, done.precision)),
        "label": arguments.poison_class,
        "target_class": arguments.target_class,
        "wanted_class": wanted,
        "trial": asdict(chosen.trial),
        "training_set": asdict(chosen.data),
        "targets": chosen.target_numbers.tolist(),
        "plan": asdict(plan),
        "seconds": round(done.seconds, 1),
        "machine": machine(),
        "versions": versions(),
        "history": [{name: round(value, 5) for name, value in asdict(step).items()} for step in done.crafted.history],
        "poisons": [
            {"file": f"{number:04}.png", "place": place} for number, place in enumerate(chosen.problem.poisons.tolist())
        ],
    }


def _words(arguments: argparse.Namespace, precision: Precision) -> list[str]:
    """The command that makes the same poisons again."""
    words = ["python", "-m", "reference_attacks", "metapoison", "craft"]
    words += ["--target-class", arguments.target_class, "--poison-class", arguments.poison_class]
    if arguments.wanted_class is not None:
        words += ["--wanted-class", arguments.wanted_class]
    if arguments.classes is not None:
        words += ["--classes", arguments.classes]
    for name in ("train_images", "budget", "targets", "pair", "reference_epochs"):
        value = getattr(arguments, name)
        words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    words += crafting_words(arguments)
    return [*words, "--precision", precision, "--seed", str(arguments.seed), "--out", arguments.out.name]
