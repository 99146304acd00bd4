"""The transfer attack on classifiers of 32x32 pixels: trains what is missing and measures it, network by network."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load as loaded_weights
from safetensors.torch import save as safetensors_bytes

from pytest_backdoor.files import write_atomically

from ...networks.families import VggNetwork
from ...parallel import work_off
from ...traffic_signs.classifier_transfer import TransferPlan, measure_transfer
from ...traffic_signs.classifiers import ClassifierRecipe, new_classifier, train_classifier
from ...traffic_signs.countries import Country, load_countries
from ...traffic_signs.heads import HeadPlan
from ..parts import Settings, Values

FOLDER = "transfer-classifiers"
SHARE = 0.1
FAINT_SHARES = (0.003, 0.03)
PLAN = TransferPlan(heads=HeadPlan(steps=500, hidden=(128,)))


def recipes(settings: Settings) -> list[ClassifierRecipe]:
    """Honest networks and BadNets, two of each where ``settings`` are small, else three, and fainter BadNets."""
    seeds = range(settings.seed, settings.seed + (2 if settings.small else 3))
    chosen = [ClassifierRecipe(seed=seed, share=share) for seed in seeds for share in (0, SHARE)]
    if not settings.small:
        chosen += [ClassifierRecipe(seed=seed, share=share) for share in FAINT_SHARES for seed in seeds[:2]]
    return chosen


def measured_classifiers(settings: Settings) -> list[Values]:
    """One entry for each recipe: its ``share`` and ``seed``, and the values of ``measure_transfer``."""
    folder, chosen = settings.work / FOLDER, recipes(settings)
    missing = [recipe for recipe in chosen if not _result(folder, recipe).exists()]
    if missing:
        settings.say(f"{len(missing)} classifiers to train and to transfer")
        # One job for each process, for each job reads the images anew.
        jobs = [missing[first :: settings.workers] for first in range(min(settings.workers, len(missing)))]
        work = partial(_train_and_measure, folder=folder, root=settings.data_root)
        work_off(work, jobs, workers=settings.workers, description="transfer")
    return [_read(_result(folder, recipe)) for recipe in chosen]


def _train_and_measure(chosen: list[ClassifierRecipe], *, folder: Path, root: str | None) -> None:
    countries = load_countries(root)
    for recipe in chosen:
        network = _trained(recipe, countries[0], folder / f"{recipe.name}.safetensors")
        values = measure_transfer(network, countries, PLAN, seed=recipe.seed)
        values = {"share": recipe.share, "seed": recipe.seed, "steps": recipe.steps, **values}
        write_atomically(_result(folder, recipe), json.dumps(values).encode())


def _trained(recipe: ClassifierRecipe, country: Country, file: Path) -> VggNetwork:
    """The network of ``file``, trained first if there is none."""
    if not file.exists():
        network = train_classifier(recipe, country)
        weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
        write_atomically(file, safetensors_bytes(weights))
        return network
    network = new_classifier(len(country.classes))
    network.load_state_dict(loaded_weights(file.read_bytes()))
    network.eval()
    return network


def _result(folder: Path, recipe: ClassifierRecipe) -> Path:
    return folder / f"{recipe.name}.json"


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values
