"""Running the check of the training set on one case, and counting the poisons that it ranks first."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.checks.training_data import DataMeasurement, measure_training_data
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models import Classifier, ImageSource, Subject, TorchClassifier, open_images
from pytest_backdoor.settings import make_settings

from ...badnet.evaluate import measure
from ...badnet.recipe import Backdoor, Recipe, train_network
from ...data import ImageSet, load_mnist
from ...parallel import work_off
from ...poisoning import Attack
from ...triggers import NAMED_TRIGGERS
from ...zoo.seeds import derived_generator
from .cases import CLASSES, SOURCE, TARGET, DigitCase, FolderCase, ModelCase

RANKINGS = ("neighbours", "spectral", "loss", "combined")
SHARES = (0.01, 0.05)
Case = DigitCase | ModelCase | FolderCase


@dataclass(frozen=True, kw_only=True)
class _Job:
    case: Case
    path: Path
    data_root: str | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Built:
    """A model with its images; ``poisons``: bool ``(N,)``. ``about``: what else is known."""

    classifier: Classifier
    training: ImageSource
    clean: ImageSource | None
    poisons: np.ndarray[Any, Any]
    about: dict[str, Any]


def measure_cases(
    cases: list[Case], work: Path, *, data_root: str | None, seed: int, workers: int
) -> list[dict[str, Any]]:
    """A record for each case; those that are in the folder ``work`` are not computed again."""
    jobs = [_Job(case=case, path=work / f"{case.name}.json", data_root=data_root, seed=seed) for case in cases]
    missing = [job for job in jobs if not job.path.exists()]
    work_off(_measure, missing, workers=workers, description="Looking at training sets")
    return [json.loads(job.path.read_text(encoding="utf-8")) for job in jobs]


def _measure(job: _Job) -> None:
    case = job.case
    built = _built(case, job)
    started = time.perf_counter(), time.process_time()
    found = measure_training_data(built.classifier, built.training, built.clean, seed=job.seed)
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    compared = found.comparisons if found.unjudged is None else None
    record = {
        "name": case.name,
        "title": case.title,
        **built.about,
        "images": len(built.training),
        "poisons": int(built.poisons.sum()),
        "accuracy_on_training_set": found.training.accuracy,
        "features": found.training.feature_count,
        "clean_samples": int(found.scores.pool.clean.sum()),
        "caught": {name: caught(found.scores.ranking(name), built.poisons) for name in RANKINGS},
        "p_value": None if compared is None else compared.p_value,
        "standing_out": None if compared is None or not compared.made else _standing_out(found, built.poisons),
        "worst": None if compared is None or not compared.made else vars(compared.worst),
        "p_by_score": None if compared is None else _by_score(compared),
        "seconds": round(seconds[0], 1),
        "processor_seconds": round(seconds[1], 1),
    }
    write_atomically(job.path, f"{json.dumps(record, indent=1)}\n".encode())


def _built(case: Case, job: _Job) -> _Built:
    if isinstance(case, DigitCase):
        return _build_digits(case, job.data_root)
    if isinstance(case, ModelCase):
        return _open_model(case, job.data_root, job.seed)
    return _open_folder(case)


def caught(ranking: np.ndarray[Any, Any], poisons: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """The share of ``poisons``, bool ``(N,)``, among the first 1 % and 5 % of a ranking; None if there are none."""
    total = int(poisons.sum())
    return {
        f"{share:g}": int(poisons[ranking[: round(share * len(ranking))]].sum()) / total if total else None
        for share in SHARES
    }


def _standing_out(found: DataMeasurement, poisons: np.ndarray[Any, Any]) -> dict[str, int]:
    """How many images the comparison counts that decides, and how many of them are poisons."""
    assert found.comparisons is not None
    chosen = found.scores.standing_out(found.comparisons.worst)
    return {"images": len(chosen), "poisons": int(poisons[chosen].sum())}


def _by_score(compared: Any) -> dict[str, float]:
    """The p-value of each score, corrected for all comparisons."""
    found: dict[str, float] = {}
    for made in compared.made:
        name = made.score.partition(",")[0]
        corrected = float(np.exp(min(0.0, made.log_p + np.log(len(compared.made)))))
        found[name] = min(found.get(name, 1.0), max(1e-300, corrected))
    return found


def _build_digits(case: DigitCase, data_root: str | None) -> _Built:
    train, test = load_mnist(data_root, train=True), load_mnist(data_root, train=False)
    drawn = torch.randperm(len(train), generator=derived_generator(case.seed, "digits"))[: case.images]
    clean = train.take(drawn)
    backdoor = _backdoor(case)
    recipe = Recipe(backdoor=backdoor, poisoned=backdoor is not None, steps=case.steps, seed=case.seed)
    network = train_network(recipe, clean)
    data = recipe.training_set(clean)
    behaviour = measure(network, test, backdoor)
    settings = make_settings({"input_shape": [1, 28, 28]}, where="the case")
    samples = test if case.clean == "test set" else clean.take(torch.arange(len(clean) // 5))
    return _Built(
        classifier=TorchClassifier(network, case.name, settings),
        training=as_source(data, "training", CLASSES),
        clean=as_source(samples, "clean", CLASSES),
        poisons=np.arange(len(data)) >= len(clean),
        about={
            "clean_accuracy": behaviour.clean_accuracy,
            "attack_success": behaviour.attack_success,
            "samples": case.clean,
            "seed": case.seed,
            "steps": case.steps,
        },
    )


def _backdoor(case: DigitCase) -> Backdoor | None:
    if case.attack is None or case.trigger is None or case.rate is None:
        return None
    return _make_backdoor(case.trigger, case.attack, SOURCE if case.attack == "single" else None, TARGET, case.rate)


def _make_backdoor(trigger: str, attack: str, source: int | None, target: int | None, rate: float) -> Backdoor:
    wanted = Attack(name=attack, classes=CLASSES, source=source, target=target)  # type: ignore[arg-type]
    return Backdoor(trigger=NAMED_TRIGGERS[trigger](), attack=wanted, rate=rate)


def _open_model(case: ModelCase, data_root: str | None, seed: int) -> _Built:
    clean, test = load_mnist(data_root, train=True), load_mnist(data_root, train=False)
    card, training = case.card["backdoor"], case.card["training"]
    names = ("trigger", "attack", "source", "target", "poison_rate")
    backdoor = None if card is None else _make_backdoor(*(card[name] for name in names))
    recipe = Recipe(backdoor=backdoor, poisoned=card is not None, steps=training["steps"], seed=training["seed"])
    data = recipe.training_set(clean)
    drawn = torch.randperm(len(data), generator=derived_generator(seed, "images"))[: case.images]
    settings = make_settings({"input_range": [0, 1]}, where=str(case.model))
    measured = case.card["measured"]
    return _Built(
        classifier=Subject(case.name, settings, path=case.model).classifier,
        training=as_source(data.take(drawn), "training", CLASSES),
        clean=as_source(test, "clean", CLASSES),
        poisons=drawn.numpy() >= len(clean),
        about={
            "clean_accuracy": measured["clean_accuracy"],
            "attack_success": measured["attack_success"] if card is not None else None,
            "samples": "test set",
            "seed": training["seed"],
            "steps": training["steps"],
        },
    )


def as_source(data: ImageSet, name: str, classes: int) -> ImageSource:
    """Images in memory as the check reads them."""

    def read(chosen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return data.images[torch.from_numpy(chosen)].numpy().astype(np.float32) / np.float32(255)

    names = [str(number) for number in range(len(data))]
    return ImageSource(path=Path(name), names=names, labels=data.labels.numpy(), classes=classes, read=read)


def _open_folder(case: FolderCase) -> _Built:
    """Raises ValueError if a poison is not in the training set, and as ``open_images`` does."""
    where = str(case.folder)
    data = {} if case.clean is None else {"data": case.clean.name}
    settings = make_settings({**data, **case.settings}, where=where)
    classifier = Subject(case.title, settings, path=case.model, root=case.folder).classifier
    shape = {"input_shape": classifier.input_shape, "classes": classifier.classes, "class_names": settings.classes}
    read: Callable[..., ImageSource] = partial(open_images, root=case.folder, **shape)
    training = read(case.training.name, setting="train_data")
    poisons = np.isin(np.array(training.names), np.array(case.poisons))
    if int(poisons.sum()) != len(set(case.poisons)):
        raise ValueError(f"{where}: {len(set(case.poisons)) - int(poisons.sum())} poisons are not in the training set.")
    clean = None if case.clean is None else read(case.clean.name, setting="data")
    return _Built(
        classifier=classifier,
        training=training,
        clean=clean,
        poisons=poisons,
        about={"samples": None if clean is None else case.clean and case.clean.name},
    )
