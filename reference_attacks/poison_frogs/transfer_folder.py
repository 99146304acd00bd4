"""A folder of transfer-learning experiments: what is there is not computed again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from pytest_backdoor.files import write_atomically

from ..data import ImageSet
from ..zoo.images import prepare_images
from .crafting import Poisons
from .extractors import Extractor, ExtractorPlan, architecture, build_extractor
from .transfer import Outcome, Scene, TransferPlan, attack, craft_all, set_scene, stopping

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One series of experiments: its ``name``, the extractor, and the plan of the attack."""

    name: str
    extractor: ExtractorPlan
    plan: TransferPlan

    @property
    def recipe(self) -> Values:
        """All that decides the results, as JSON values."""
        extractor = {**asdict(self.extractor), "architecture": architecture()}
        values: Values = json.loads(json.dumps({"extractor": extractor, "plan": asdict(self.plan)}))
        return values


@dataclass(frozen=True, kw_only=True)
class TransferFolder:
    """Extractors, poisons and results below ``path``: ``extractors/``, ``NAME.safetensors``, ``NAME.json``."""

    path: Path
    data_root: str | None
    say: Callable[[str], None]

    def measured(self, experiment: Experiment) -> Values:
        """The results of ``experiment``, JSON values; what is missing is trained, crafted and measured.

        Raises DataNotFoundError where images are absent, and ValueError if the folder holds results of another recipe.
        """
        record_path = self.path / f"{experiment.name}.json"
        if not record_path.exists():
            record = {"recipe": experiment.recipe, "results": self._measure(experiment)}
            write_atomically(record_path, json.dumps(record).encode())
        record = json.loads(record_path.read_text())
        _check_recipe(record_path, record["recipe"], experiment)
        results: Values = record["results"]
        return results

    def extractor(self, experiment: Experiment) -> Extractor:
        """The experiment's extractor, trained if it is not there."""
        return build_extractor(experiment.extractor, self.path / "extractors", self.data_root, self.say)

    def scene(self, experiment: Experiment) -> Scene:
        """The experiment's images, features and clean layer."""
        train, test = self.images(experiment)
        return set_scene(self.extractor(experiment), train, test, experiment.plan)

    def images(self, experiment: Experiment) -> tuple[ImageSet, ImageSet]:
        """Training and test images of the experiment's task."""
        task = experiment.extractor.task
        images = prepare_images(task, self.data_root, self.path / "extractors" / "images" / task)
        return images.train, images.test

    def poisons(self, experiment: Experiment, scene: Scene) -> tuple[Poisons, float]:
        """The experiment's poisons, and the seconds that it took to craft them."""
        path = self.path / f"{experiment.name}.safetensors"
        if not path.exists():
            self.say(f"{experiment.name}: crafting {len(scene.pairs)} poisons")
            started = time.perf_counter()
            poisons = craft_all(self.extractor(experiment), scene, experiment.plan)
            notes = {"recipe": json.dumps(experiment.recipe), "seconds": str(time.perf_counter() - started)}
            write_atomically(path, save(vars(poisons), metadata=notes))
        with safe_open(path, "pt") as file:
            notes = file.metadata()
        _check_recipe(path, json.loads(notes["recipe"]), experiment)
        return Poisons(**load_file(path)), float(notes["seconds"])

    def _measure(self, experiment: Experiment) -> Values:
        scene = self.scene(experiment)
        poisons, seconds = self.poisons(experiment, scene)
        self.say(f"{experiment.name}: training {len(scene.pairs)} last layers")
        extractor = self.extractor(experiment)
        outcome = attack(extractor, scene, poisons.images, experiment.plan)
        return {
            "extractor_accuracy": round(extractor.accuracy, 4),
            "seconds": round(seconds, 1),
            "stop_distance": round(stopping(scene, experiment.plan).stop_distance or 0.0, 4),
            **results_of(scene, poisons, outcome),
        }


def results_of(scene: Scene, poisons: Poisons, outcome: Outcome) -> Values:
    """What was measured, as JSON values: one number for each experiment where there are lists."""
    return {**_of_scene(scene), **_of_poisons(poisons), **_of_outcome(outcome)}


def _check_recipe(path: Path, found: Values, experiment: Experiment) -> None:
    if found != experiment.recipe:
        raise ValueError(f"{path} is of another recipe; choose an empty folder for the experiments.")


def _of_scene(scene: Scene) -> Values:
    return {
        "features": scene.train_features.features.shape[1],
        "training_images": len(scene.train_features.labels),
        "test_images": len(scene.test),
        "clean_accuracy": round(scene.clean_accuracy, 5),
        "restart_angle": round(scene.restart_angle, 3),
        "target_classes": scene.test.labels[scene.pairs.targets].tolist(),
        "initial_distances": _rounded(
            (scene.test_features.features[scene.pairs.bases] - scene.test_features.features[scene.pairs.targets]).norm(
                dim=1
            )
        ),
    }


def _of_poisons(poisons: Poisons) -> Values:
    return {
        "distances": _rounded(poisons.distances),
        "objectives": _rounded(poisons.objectives),
        "iterations": poisons.iterations.tolist(),
    }


def _of_outcome(outcome: Outcome) -> Values:
    return {
        "hit": outcome.hit.tolist(),
        "learnt": outcome.learnt.tolist(),
        "confidence": _rounded(outcome.confidence),
        "accuracy": _rounded(outcome.accuracy),
        "l2": _rounded(outcome.l2),
        "linf": outcome.linf.tolist(),
        "angles": _rounded(outcome.angles[:, -1]),
        "mean_angle_by_epoch": _rounded(outcome.angles.mean(0)),
    }


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
