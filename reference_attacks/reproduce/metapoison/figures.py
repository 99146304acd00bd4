"""Figures 3 to 6 of MetaPoison (2020): what is trained for each of them, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...metapoison.experiments import (
    ARMS,
    Scale,
    attacks,
    bounds,
    budgets,
    choose_scale,
    in_turn,
    open_folder,
    pair_label,
    pairs,
    stepped_victims,
    varied_victims,
    victims,
)
from ...metapoison.feature_space import feature_distances
from ...metapoison.folder import MetaPoisonFolder
from ...metapoison.kept_weights import last_network, path_of
from ...metapoison.runs import VictimRun
from ...metapoison.summaries import (
    accuracy_change,
    crafting_seconds,
    curves,
    records_of,
    success_difference,
    summary,
)
from ...metapoison.trials import Trial
from ...metapoison.weight_space import weight_paths
from ...zoo.machine import choose_machine
from ..parts import Part, Settings, Values
from . import inside_text, plots, text


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the victims of a run are, and how large its experiments are: full on a GPU, reduced on a CPU, or small."""

    settings: Settings
    folder: MetaPoisonFolder
    scale: Scale

    def build(self, groups: Sequence[Sequence[VictimRun]]) -> None:
        """Train the victims that are missing, whole groups after each other."""
        if not self.settings.training:
            return
        lots = in_turn(groups, self.folder.machine.workers)
        for number, lot in enumerate(lots):
            self.settings.say(f"{len(lot)} victims, lot {number + 1} of {len(lots)}; those that are there are used")
            self.folder.build(lot, self.settings.data_root)

    def summary(self, trials: Sequence[Trial]) -> Values | None:
        """Of the victims of some trials' poisons that are there."""
        runs = [run for trial in trials for run in victims(self.scale, trial)]
        return summary(records_of(self.folder, runs))

    def results(self, **values: object) -> Values:
        """Values of a figure, and with what setting they were measured."""
        path = self.folder.path / self.folder.name / "reference.json"
        reference = json.loads(path.read_text())["validation_accuracy"] if path.exists() else None
        setting = json.loads(json.dumps(asdict(self.folder.setting)))
        machine = {"precision": self.folder.machine.precision, "workers": self.folder.machine.workers}
        return {"setting": {**setting, **machine, "budget": self.scale.budget}, "reference": reference, **values}


def bench_of(settings: Settings) -> Bench:
    """The bench of a run."""
    machine = choose_machine(None, settings.workers, None, None)
    scale = choose_scale(machine.device, small=settings.small)
    return Bench(settings=settings, folder=open_folder(settings.work, scale, settings.seed, machine), scale=scale)


def measure_figure_3(settings: Settings) -> Values:
    """The target's loss while poisons are crafted, and what victims make of them after some craft steps."""
    bench = bench_of(settings)
    chosen = pairs(bench.scale, bench.scale.stepped_pairs)
    stepped = {trial: stepped_victims(bench.scale, trial) for trial in chosen}
    bench.build([[run for runs in steps.values() for run in runs] for steps in stepped.values()])
    measured = {}
    for trial, steps in stepped.items():
        crafting = bench.folder.crafting(trial)
        if crafting is not None:
            measured[pair_label(bench.scale, trial)] = {
                "history": crafting["history"],
                "steps": {str(step): summary(records_of(bench.folder, runs)) for step, runs in steps.items()},
            }
    return bench.results(pairs=measured)


def measure_figure_4(settings: Settings) -> Values:
    """Success, target loss and validation accuracy by epoch, of poisons, random perturbations and clean images."""
    bench = bench_of(settings)
    chosen = pairs(bench.scale, bench.scale.pairs)
    # One clean victim serves all pairs, if it is trained for all of them at once.
    bench.build([[run for trial in chosen for run in victims(bench.scale, trial, "clean")]])
    bench.build([[*victims(bench.scale, trial), *victims(bench.scale, trial, "random")] for trial in chosen])
    # Only pairs of which all is there, so that arms can be compared.
    runs = {trial: {arm: victims(bench.scale, trial, arm) for arm in ARMS} for trial in chosen}
    whole = [
        trial for trial, arms in runs.items() if all(bench.folder.is_done(run) for arm in arms.values() for run in arm)
    ]
    records = {arm: records_of(bench.folder, [run for trial in whole for run in runs[trial][arm]]) for arm in ARMS}
    return bench.results(
        pairs={
            pair_label(bench.scale, trial): {
                arm: curves(records_of(bench.folder, own)) for arm, own in runs[trial].items()
            }
            for trial in whole
        },
        arms={arm: summary(found) for arm, found in records.items()},
        difference=success_difference(records["poisoned"], records["random"]),
        accuracy_changes={arm: accuracy_change(records[arm], records["clean"]) for arm in ("poisoned", "random")},
        crafting_seconds=crafting_seconds(bench.folder, whole),
    )


def measure_figure_5(settings: Settings) -> Values:
    """Success with fewer poisons, on victims that are trained otherwise, and within another bound."""
    bench = bench_of(settings)
    scale = bench.scale
    varied = {trial: varied_victims(scale, trial) for trial in pairs(scale, scale.varied_pairs)}
    bench.build([[run for runs in variants.values() for run in runs] for variants in varied.values()])
    fewer, within = budgets(scale), bounds(scale)
    for groups in (fewer, within):
        bench.build([victims(scale, trial) for trials in groups.values() for trial in trials])
    return bench.results(
        budgets={
            pair_label(scale, trial): {
                f"{share:g}": bench.summary([fewer[share][place]]) for share in reversed(scale.budgets)
            }
            for place, trial in enumerate(pairs(scale, scale.budget_pairs))
        },
        variants={
            pair_label(scale, trial): {
                variant: summary(records_of(bench.folder, runs)) for variant, runs in variants.items()
            }
            for trial, variants in varied.items()
        },
        bounds={str(levels): bench.summary(trials) for levels, trials in within.items()},
    )


def measure_figure_6(settings: Settings) -> Values:
    """Attacks of other kinds, and what they do in the spaces of weights and of features."""
    bench = bench_of(settings)
    kinds = attacks(bench.scale)
    bench.build([victims(bench.scale, trial) for trials in kinds.values() for trial in trials])
    chosen = pairs(bench.scale, bench.scale.looked_into)
    bench.build(
        [[run for trial in chosen for arm in ("clean", "poisoned") for run in victims(bench.scale, trial, arm)]]
    )
    looked = {pair_label(bench.scale, trial): look_into(bench, trial) for trial in chosen}
    return bench.results(
        attacks={kind: bench.summary(trials) for kind, trials in kinds.items()},
        looked={label: found for label, found in looked.items() if found is not None},
    )


def look_into(bench: Bench, trial: Trial) -> Values | None:
    """Figures 6a and 6b of one pair's first victim and of its clean twin; None unless both are there."""
    folder = bench.folder
    clean, poisoned = (victims(bench.scale, trial, arm)[0] for arm in ("clean", "poisoned"))
    if not (folder.is_done(clean) and folder.is_done(poisoned)):
        return None
    bench.settings.say(f"looking into victims of {trial.attack}")
    problem, poisons = folder.problem(trial), folder.poisons(trial)
    template = folder.new_network(folder.training(poisoned), "template")
    kept = {"clean": folder.weights(clean), "poisoned": folder.weights(poisoned)}
    paths = {name: path_of(template, weights) for name, weights in kept.items()}
    networks: dict[str, Any] = {name: last_network(template, weights) for name, weights in kept.items()}
    return {
        "weights": weight_paths(
            problem,
            poisons,
            template,
            paths["clean"],
            paths["poisoned"],
            folder.setting.crafting,
            seed=folder.seed,
        ),
        "features": feature_distances(
            problem, poisons, {name: network.features for name, network in networks.items()}, bound=trial.epsilon
        ),
    }


PARTS = {
    "figure-3": Part(
        title="Figure 3: the process of crafting",
        measure=measure_figure_3,
        text=text.figure_3,
        draw=plots.figure_3,
    ),
    "figure-4": Part(
        title="Figure 4: training of the victims",
        measure=measure_figure_4,
        text=text.figure_4,
        draw=plots.figure_4,
    ),
    "figure-5": Part(
        title="Figure 5: fewer poisons, other victims, other bounds",
        measure=measure_figure_5,
        text=text.figure_5,
        draw=plots.figure_5,
    ),
    "figure-6": Part(
        title="Figure 6: other attacks, and a look inside",
        measure=measure_figure_6,
        text=inside_text.figure_6,
        draw=plots.figure_6,
    ),
}
