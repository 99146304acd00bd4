"""The end-to-end attack: Figures 3 and 5 and the ablation of Poison Frogs (2018), §4."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from ...poison_frogs.end_to_end import EndToEndFolder
from ...poison_frogs.experiments import (
    AIRPLANE_TO_FROG,
    OPACITY,
    PAPER_SCHEDULE,
    POISONS,
    REDUCED,
    Scale,
    ablation,
    choose_scale,
    curves,
    main_trials,
    open_folder,
    outlier_trials,
    random_trials,
    single_trials,
    unique,
)
from ...poison_frogs.summaries import records_of, rotations, summary
from ...poison_frogs.trials import Trial
from ...zoo.machine import Machine, choose_machine
from ..parts import Part, Settings, Values
from . import end_to_end_plots, end_to_end_text


def folder_of(settings: Settings) -> tuple[EndToEndFolder, Scale]:
    """The folder of the victims and the size of the experiments: full on a GPU, reduced on a CPU, or small."""
    machine = choose_machine(None, settings.workers, None, None)
    scale = choose_scale(machine.device, small=settings.small)
    return open_folder(settings.work, scale, settings.seed, machine), scale


def measure_figure_3(settings: Settings) -> Values:
    """Features on the plane of Figure 3, of one poison, and of 50 with which an attack succeeded (the first such)."""
    folder, scale = folder_of(settings)
    many = random_trials(AIRPLANE_TO_FROG, poisons=POISONS, opacity=OPACITY, count=scale.trials)
    single = single_trials()
    _build(settings, folder, single)
    found = None
    for trial in many:
        _build(settings, folder, [trial])
        found = folder.record(trial)
        if found is None or found["success"]:
            break
    attacks = {"one poison": folder.record(single[0]), "50 poisons": found}
    shown = ("trial", "target", "logits", "predicted", "success", "rotation", "crafting", "projection")
    return {
        **_setting(folder),
        "attacks": {
            name: {key: record[key] for key in shown} for name, record in attacks.items() if record is not None
        },
    }


def measure_figure_5(settings: Settings) -> Values:
    """Success against the number of poisons, outliers, and the rotation of the boundary in all of them.

    "paper_schedule": the same of what victims there are on as many images as the paper's, beside reduced ones; they are
    trained by ``frogs end-to-end --scale paper-schedule`` with the same ``--work``, not by this.
    """
    folder, scale = folder_of(settings)
    drawn = curves(scale)
    points = [trial for curve in drawn for poisons in curve.counts for trial in curve.trials(poisons, scale.trials)]
    outliers = outlier_trials(scale)
    _build(settings, folder, unique([*main_trials(scale), *outliers, *points]))
    return {
        **_setting(folder),
        "curves": {
            curve.label: {
                str(poisons): summary(records_of(folder, curve.trials(poisons, scale.trials)))
                for poisons in curve.counts
            }
            for curve in drawn
        },
        "outliers": summary(records_of(folder, outliers)),
        "outlier_targets": [_outlier(record) for record in records_of(folder, outliers)],
        "rotations": rotations(records_of(folder, [*main_trials(scale), *outliers])),
        "paper_schedule": _paper_schedule(settings, folder.machine) if scale == REDUCED else None,
    }


def _paper_schedule(settings: Settings, machine: Machine) -> Values | None:
    folder = open_folder(settings.work, PAPER_SCHEDULE, settings.seed, machine)
    random = records_of(folder, main_trials(PAPER_SCHEDULE))
    outliers = records_of(folder, outlier_trials(PAPER_SCHEDULE))
    found = {"random": summary(random), "outliers": summary(outliers), "rotations": rotations([*random, *outliers])}
    return {**_setting(folder), **found} if random or outliers else None


def measure_ablation(settings: Settings) -> Values:
    """Success with each of the three ingredients left out."""
    folder, scale = folder_of(settings)
    rows = ablation(scale)
    _build(settings, folder, unique([trial for trials in rows.values() for trial in trials]))
    return {
        **_setting(folder),
        "rows": {name: summary(records_of(folder, trials)) for name, trials in rows.items()},
    }


def _build(settings: Settings, folder: EndToEndFolder, trials: Sequence[Trial]) -> None:
    settings.say(f"victims of {len(trials)} trials, those that are there already are used")
    folder.build(trials, settings.data_root)


def _setting(folder: EndToEndFolder) -> Values:
    accuracies = json.loads((folder.path / folder.name / "control.json").read_text())
    values = json.loads(json.dumps(asdict(folder.setting)))
    return {"setting": {**values, "precision": folder.machine.precision}, "before": accuracies["clean_accuracy"]}


def _outlier(record: Values) -> Values:
    """One bar of Figure 5a: the target's confidence before the attack, and how it ended."""
    import torch

    label = record["trial"]["target_class"]
    confidence = torch.tensor(record["logits"]["clean"]).softmax(0)[label].item()
    return {"target": record["target"], "confidence": round(confidence, 4), "success": record["success"]}


PARTS = {
    "figure-3": Part(
        title="Figure 3: features of end-to-end attacks",
        measure=measure_figure_3,
        text=end_to_end_text.figure_3,
        draw=end_to_end_plots.figure_3,
    ),
    "figure-5": Part(
        title="Figure 5: success of end-to-end attacks",
        measure=measure_figure_5,
        text=end_to_end_text.figure_5,
        draw=end_to_end_plots.figure_5,
    ),
    "ablation": Part(
        title="Ablation of the end-to-end attack", measure=measure_ablation, text=end_to_end_text.ablation
    ),
}
