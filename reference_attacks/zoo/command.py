"""``python -m reference_attacks zoo``: train the networks on which detectors are fitted, or time how fast that is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parsing import add_action_to, add_data_root, add_subcommand

if TYPE_CHECKING:
    from ..parsing import Parsers
    from .executors import Executor
    from .recipe import ZooPlan

DESCRIPTION = """\
Train clean and poisoned networks of the threat model of Universal Litmus Patterns (section 3.1): one source and one
target class, one of 20 random 5x5 patches, in a corner that is drawn for each image (gtsrb: somewhere in the middle).
Triggers and pairs are disjoint between the networks to fit on and those to test on. A network that does not reach the
conditions (clean accuracy close to that of its clean twins, attack success above 90 %) stays on disk, is counted as
rejected and left out.

The command can be interrupted at any moment and goes on where it stopped. A zoo can be made larger with the same
command and larger numbers.
"""

EXPORT_DESCRIPTION = """\
Write networks of a zoo as ONNX files, each with a JSON file that says what was done to it. ONNX Runtime's logits are
compared with torch's before a file is written.
"""

BENCHMARK_DESCRIPTION = """\
Measure how many networks an hour this machine trains: one after the other with torch's defaults, the same in the
machine's number format, in groups as one program, and as zoo build does. All ways train the same networks on the same
batches in turn, with processes started and images loaded beforehand. The arithmetic rate is shown beside that of large
matrix products in the same run. Run it on an idle machine.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``zoo build``, ``zoo export`` and ``zoo benchmark``."""
    actions = add_subcommand(subparsers, "zoo", "many clean and poisoned networks")
    _add_build(actions)
    _add_export(actions)
    _add_benchmark(actions)


def _add_build(actions: Parsers[argparse.ArgumentParser]) -> None:
    build = add_action_to(actions, "build", "train the networks of a zoo", DESCRIPTION)
    build.add_argument(
        "--task", default="mnist", help="mnist, cifar10, gtsrb, or a folder with train/ and test/; default: %(default)s"
    )
    build.add_argument("--clean", type=int, default=200, metavar="N", help="clean networks to fit and test on")
    build.add_argument("--poisoned", type=int, default=200, metavar="N", help="poisoned networks to fit and test on")
    build.add_argument(
        "--calibration", type=int, default=200, metavar="N", help="clean networks that only give reference scores"
    )
    build.add_argument(
        "--test-share", type=float, default=1 / 3, metavar="SHARE", help="share of networks to test on; default: 1/3"
    )
    _add_variety(build)
    build.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the whole zoo; default: %(default)s")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the zoo")
    add_data_root(build)
    _add_machine(build)
    build.set_defaults(run=run)


def _add_export(actions: Parsers[argparse.ArgumentParser]) -> None:
    export = add_action_to(actions, "export", "networks of a zoo as ONNX files", EXPORT_DESCRIPTION)
    export.add_argument("--zoo", type=Path, required=True, metavar="DIR", help="folder of the zoo")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    export.add_argument("names", nargs="+", metavar="NAME", help="such as poisoned-test-0000")
    export.set_defaults(run=run_export)


def _add_benchmark(actions: Parsers[argparse.ArgumentParser]) -> None:
    benchmark = add_action_to(actions, "benchmark", "measure networks an hour on this machine", BENCHMARK_DESCRIPTION)
    benchmark.add_argument("--task", default="mnist", help="as for zoo build; default: %(default)s")
    benchmark.add_argument("--family", metavar="NAME", help="architecture; default: the task's")
    benchmark.add_argument("--networks", type=int, default=8, metavar="N", help="default: %(default)s")
    benchmark.add_argument(
        "--steps", type=int, default=100, metavar="N", help="training steps of each network; default: %(default)s"
    )
    benchmark.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="timings of each way; default: %(default)s"
    )
    benchmark.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .md file; a .json is put beside it"
    )
    add_data_root(benchmark)
    _add_machine_size(benchmark.add_argument_group("zoo build's way"))
    benchmark.set_defaults(run=run_benchmark)


def _add_variety(build: argparse.ArgumentParser) -> None:
    group = build.add_argument_group(
        "what the networks are", "of several values each network takes its turn or draws one"
    )
    group.add_argument(
        "--families",
        nargs="+",
        metavar="NAME",
        help="plain, vgg, transformer-vgg, resnet, depthwise, sign-head, small-alexnet, small-convnet, resnet-20",
    )
    group.add_argument("--steps", type=int, nargs="+", metavar="N", help="training steps; default: the task's")
    group.add_argument(
        "--recipes",
        nargs="+",
        default=["task"],
        metavar="NAME",
        help="training recipes: task (the task's own), muon, sgd, plain-sgd (no augmentation), varied (each network "
        "draws one); default: task",
    )
    group.add_argument(
        "--goals",
        nargs="+",
        default=["source-target"],
        metavar="NAME",
        help="source-target, all-to-one, all-to-all; default: source-target",
    )
    group.add_argument(
        "--triggers",
        nargs="+",
        default=["patch5"],
        metavar="NAME",
        help="patchN (N pixels wide), pixel, blended, wave; default: patch5",
    )
    group.add_argument(
        "--poison-ratio",
        type=float,
        nargs="+",
        default=[0.5],
        metavar="RATE",
        help="share of backdoored images among those of the source class; default: 0.5",
    )
    group.add_argument(
        "--least-attack-success",
        type=float,
        default=0.9,
        metavar="RATE",
        help="what the attack of a poisoned network must exceed for it to be kept; default: %(default)s",
    )


def _add_machine(build: argparse.ArgumentParser) -> None:
    group = build.add_argument_group("the machine")
    group.add_argument("--executor", choices=["local", "ray"], default="local", help="default: %(default)s")
    _add_machine_size(group)
    group.add_argument("--ray-address", metavar="ADDRESS", help="a running Ray cluster; default: start one here")


def _add_machine_size(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core, on a GPU two")
    group.add_argument(
        "--group", type=int, metavar="N", help="networks that train as one program; default: 1 on a CPU, 32 on a GPU"
    )
    group.add_argument("--device", help="cpu, cuda, mps; default: cuda where there is one")
    group.add_argument(
        "--precision", choices=["float32", "bfloat16"], help="default: bfloat16 where the machine computes with it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Build the zoo and say what is in it. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from ..tasks import find_task
    from .build import build_zoo
    from .images import prepare_images
    from .machine import choose_machine

    find_task(arguments.task)
    machine = choose_machine(arguments.device, arguments.workers, arguments.group, arguments.precision)
    executor = make_executor(arguments, machine.workers, machine.device)
    classes = prepare_images(arguments.task, arguments.data_root, arguments.out).classes
    plan = make_plan(arguments, classes, machine.precision)
    manifest = build_zoo(plan, arguments.out, executor=executor, group_size=machine.group)
    print(f"{arguments.out}: {len(manifest['networks'])} networks, of which {manifest['rejected']} were rejected")
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Write the files and name them. Raises ValueError or OSError with a sentence."""
    from .export import export_networks

    for path in export_networks(arguments.zoo, arguments.names, arguments.out):
        print(path)
    return 0


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Measure, write the table and print it. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from pytest_backdoor.files import write_atomically

    from .benchmark import BenchmarkPlan, measure
    from .benchmark_table import as_markdown, read_figures
    from .machine import choose_machine

    if arguments.out.suffix != ".md":
        raise ValueError(f"{arguments.out} must be a .md file; the figures go to a .json file beside it.")
    plan = BenchmarkPlan(
        task=arguments.task,
        family=arguments.family,
        networks=arguments.networks,
        steps=arguments.steps,
        rounds=arguments.rounds,
        machine=choose_machine(arguments.device, arguments.workers, arguments.group, arguments.precision),
    )
    recorded = arguments.out.with_suffix(".json")
    # Each task's figures stay until that task is measured again.
    figures = read_figures(recorded) | {Path(arguments.task).name: measure(plan, arguments.data_root)}
    text = as_markdown(figures)
    write_atomically(recorded, f"{json.dumps(figures, indent=1)}\n".encode())
    write_atomically(arguments.out, text.encode())
    print(text)
    return 0


def make_plan(arguments: argparse.Namespace, classes: int, precision: Any) -> ZooPlan:
    """The plan that the options describe. Raises ValueError for one that makes no sense."""
    from ..tasks import find_task
    from .recipe import ZooPlan

    task = find_task(arguments.task)
    if not 0 <= arguments.test_share <= 1:
        raise ValueError("The share of test networks must lie between 0 and 1.")
    clean_test, poisoned_test = (round(count * arguments.test_share) for count in (arguments.clean, arguments.poisoned))
    return ZooPlan(
        task=arguments.task,
        classes=classes,
        seed=arguments.seed,
        clean_fit=arguments.clean - clean_test,
        clean_calibration=arguments.calibration,
        clean_test=clean_test,
        poisoned_fit=arguments.poisoned - poisoned_test,
        poisoned_test=poisoned_test,
        families=tuple(arguments.families or (task.family,)),
        steps=tuple(arguments.steps or task.steps),
        recipes=tuple(arguments.recipes),
        goals=tuple(arguments.goals),
        triggers=tuple(arguments.triggers),
        poison_ratios=tuple(arguments.poison_ratio),
        least_attack_success=arguments.least_attack_success,
        precision=precision,
    )


def make_executor(arguments: argparse.Namespace, workers: int, device: str) -> Executor:
    """The executor of that name."""
    if arguments.executor == "ray":
        from .ray_executor import RayExecutor

        return RayExecutor(workers=workers, device=device, address=arguments.ray_address)
    from .executors import LocalExecutor

    return LocalExecutor(workers=workers, device=device)
