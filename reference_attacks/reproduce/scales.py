"""How large the zoos of a reproduction are: as in the paper, or what two cores train in an hour or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..detectors.classifiers import Pooling

Scale = Literal["paper", "reduced"]
# In the order of the paper's Table 1, as its tables and figures call them.
TASK_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "gtsrb": "GTSRB"}
# Which class-symmetric classifier a task's pack has; docs/detector-packs.md says how each was chosen. MNIST has none.
BEST_POOLINGS: dict[str, Pooling] = {"mnist": "symmetric-max", "cifar10": "symmetric-max", "gtsrb": "symmetric-sum"}
RATIOS = (0.25, 0.12, 0.05, 0.01)
OTHER_TRIGGERS = ("patch3", "patch5", "patch8", "pixel", "blended", "wave")


@dataclass(frozen=True, kw_only=True)
class ZooSize:
    """Networks of one zoo.

    ``clean`` and ``poisoned``: to fit and test on. ``calibration``: clean ones for reference scores. ``families``,
    ``ratios`` and ``variants``: networks of the further zoos of §4.1 and of what goes beyond the paper.
    ``reversed_networks``: how many clean and how many poisoned test networks triggers are reversed for; None for all.
    """

    clean: int
    poisoned: int
    calibration: int
    test_share: float
    families: int
    ratios: int
    variants: int
    reversed_networks: int | None = None


SIZES: dict[tuple[Scale, str], ZooSize] = {
    ("paper", "mnist"): ZooSize(
        clean=900, poisoned=900, calibration=200, test_share=0.5, families=400, ratios=400, variants=240
    ),
    ("paper", "cifar10"): ZooSize(
        clean=500, poisoned=500, calibration=200, test_share=0.2, families=400, ratios=400, variants=240
    ),
    ("paper", "gtsrb"): ZooSize(
        clean=1000, poisoned=1000, calibration=200, test_share=0.5, families=400, ratios=400, variants=240
    ),
    ("reduced", "mnist"): ZooSize(
        clean=105, poisoned=120, calibration=200, test_share=1 / 3, families=40, ratios=100, variants=84
    ),
    ("reduced", "cifar10"): ZooSize(
        clean=39, poisoned=45, calibration=100, test_share=1 / 3, families=8, ratios=0, variants=0
    ),
    ("reduced", "gtsrb"): ZooSize(
        clean=60,
        poisoned=75,
        calibration=100,
        test_share=1 / 3,
        families=8,
        ratios=0,
        variants=0,
        reversed_networks=6,
    ),
}


def zoo_commands(task: str, scale: Scale) -> dict[str, list[str]]:
    """The options of ``zoo build`` for every zoo of a task, by the name of its folder."""
    size = SIZES[scale, task]
    base = ["--task", task]
    share = ["--test-share", f"{size.test_share:.6g}"]
    short = {"mnist": ["450", "700"], "cifar10": ["1250"], "gtsrb": ["800"]}[task]
    others = [name for name in ("plain", "vgg", "transformer-vgg", "resnet", "depthwise") if name != _main_family(task)]
    usual = {"mnist": ["450", "1000"], "cifar10": ["1250", "1365"], "gtsrb": ["800", "1000"]}[task]
    tested = ["--clean", "0", "--calibration", "0", "--test-share", "1", "--steps", *usual]
    return {
        task: [
            *base,
            *("--clean", str(size.clean), "--poisoned", str(size.poisoned)),
            *("--calibration", str(size.calibration), *share),
        ],
        f"{task}-families": [
            *base,
            *("--families", *others, "--clean", str(size.families), "--poisoned", str(size.families)),
            *("--calibration", "0", "--test-share", "0.5", "--steps", *short),
        ],
        f"{task}-ratios": [
            *base,
            *("--poisoned", str(size.ratios), *tested, "--poison-ratio", *map(str, RATIOS)),
            *("--least-attack-success", "0"),
        ],
        f"{task}-variants": [
            *base,
            *("--poisoned", str(size.variants), *tested),
            *("--goals", "all-to-one", "all-to-all", "--triggers", *OTHER_TRIGGERS),
        ],
    }


def _main_family(task: str) -> str:
    from ..tasks import TASKS

    return TASKS[task].family
