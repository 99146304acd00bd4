"""A tiny folder of MetaPoison on made-up images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from made_up_zoos import make_images
from safetensors.torch import save

from reference_attacks.metapoison.folder import MetaPoisonFolder, Setting
from reference_attacks.metapoison.settings import CraftingPlan
from reference_attacks.metapoison.trials import Trial
from reference_attacks.metapoison.victims import VictimTraining
from reference_attacks.zoo.machine import Machine

SHAPE, CLASSES = (3, 16, 16), 3
CPU = Machine(device="cpu", workers=1, group=1, precision="float32")
TRAINING = VictimTraining(network="small-convnet", epochs=2, batch=10, learning_rate=0.05)
PLAN = CraftingPlan(network="small-convnet", surrogates=2, epochs=2, unroll=1, steps=2, batch=10)


def make_trial(**changes: Any) -> Trial:
    return Trial(**{"target_class": 0, "poison_class": 1, "budget": 0.1} | changes)


def make_setting(**changes: Any) -> Setting:
    base: dict[str, Any] = {
        "classes": (0, 1, 2),
        "train_images": 30,
        "evaluation_images": 20,
        "crafting": PLAN,
        "victims": TRAINING,
    }
    return Setting(**base | changes)


def make_folder(path: Path, **changes: Any) -> MetaPoisonFolder:
    """A folder that has its images, and nothing else yet."""
    data = {"train": make_images(60, SHAPE, CLASSES), "test": make_images(60, SHAPE, CLASSES, 1)}
    arrays = {f"{part}/{name}": getattr(images, name) for part, images in data.items() for name in ("images", "labels")}
    path.mkdir(exist_ok=True)
    (path / "images.safetensors").write_bytes(save(arrays, metadata={"task": "cifar10"}))
    return MetaPoisonFolder(path=path, name="tiny", setting=make_setting(**changes), seed=0, machine=CPU)
