"""Which preprocessing a model wants: the declared one, or the one under which it classifies clean samples.

A model that is scanned in another range than it was trained for gives a wrong verdict, with nothing that shows it. So
labelled clean samples decide where there are any: the preprocessing is found by accuracy under the usual conventions,
and where the model classifies too few of them, or a declared preprocessing does clearly worse than another one, nothing
is judged.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import NotAssessableError
from ..settings import ScanSettings
from ._conventions import conventions_for, same_meaning, swapped_channels
from ._preprocessing import declares_range
from ._resolution import Origin, Resolution, as_settings
from ._trial import LOWEST_ACCURACY, Candidate, Trial, run_trials

if TYPE_CHECKING:
    from ._classifier import OpenedModel
    from ._samples import Samples

FEWEST_SAMPLES = 10
MOST_TRIED = 200
FEWEST_OF_OTHER_CLASSES = 5
TIE = 0.02
CLEARLY_LOWER_LOSS = 0.2
SAME_LOSS = 0.05


def resolve(model: OpenedModel, settings: ScanSettings, samples: Samples | None, display: str) -> Resolution:
    """The preprocessing that every check of ``model`` uses.

    ``samples``: clean ones as the ``data`` setting names them. The same model and samples give the same answer. Raises
    NotAssessableError if labelled samples show that none is right, or that the declared one is not.
    """
    origin = _origin_without_samples(model, settings)
    unfit = None if samples is None else _why_unfit(samples)
    if samples is None or unfit:
        note = {"graph": _what_the_graph_says(model), "assumed": unfit or ""}.get(origin, "")
        return Resolution(preprocessing=model.preprocessing, origin=origin, note=note)
    if origin == "declared":
        return _confirm(model, settings, samples, display)
    return _choose(model, settings, samples, display)


def _origin_without_samples(model: OpenedModel, settings: ScanSettings) -> Origin:
    if declares_range(settings):
        return "declared"
    return "graph" if model.preprocessing.integer or model.range_in_graph else "assumed"


def _what_the_graph_says(model: OpenedModel) -> str:
    return "The first operator of its graph scales pixels." if model.range_in_graph else ""


def _why_unfit(samples: Samples) -> str | None:
    """Why ``samples`` cannot tell one preprocessing from another, None if they can."""
    import numpy as np

    if samples.labels is None:
        return "The clean samples have no labels to find it by."
    if len(samples) < FEWEST_SAMPLES:
        return f"There are only {len(samples)} clean samples to find it by."
    if len(samples) - int(np.unique(samples.labels, return_counts=True)[1].max()) < FEWEST_OF_OTHER_CLASSES:
        return "The clean samples are nearly all of one class, so that they cannot show it."
    return None


def _candidates(model: OpenedModel, settings: ScanSettings, samples: Samples) -> list[Candidate]:
    """What is used unless something else does better, then the conventions in their order, in every open layout."""
    current = model.preprocessing
    found = [Candidate(name="0 to 255" if current.integer else "as declared", preprocessing=current)]
    if not current.integer:
        for convention in conventions_for(samples.images):
            preprocessing = convention.applied_to(current)
            if settings.channel_order not in (None, convention.channel_order):
                preprocessing = swapped_channels(preprocessing)
            if preprocessing == current:
                found[0] = Candidate(name=convention.name, preprocessing=current)
            else:
                found.append(Candidate(name=convention.name, preprocessing=preprocessing))
    if model.layout_open:
        found += [
            Candidate(name=f"{each.name}, NHWC", preprocessing=replace(each.preprocessing, layout="NHWC"))
            for each in found
            if each.preprocessing.layout == "NCHW"
        ]
    return found


def _swapped(model: OpenedModel, settings: ScanSettings, found: list[Candidate]) -> list[Candidate]:
    if model.input_shape[0] != 3 or settings.channel_order is not None:
        return []
    return [
        Candidate(
            name=f"{each.name}, {'BGR' if each.preprocessing.channel_order == 'RGB' else 'RGB'}",
            preprocessing=swapped_channels(each.preprocessing),
        )
        for each in found
    ]


def _choose(model: OpenedModel, settings: ScanSettings, samples: Samples, display: str) -> Resolution:
    tie = max(TIE, 1.001 / len(samples))
    candidates = _candidates(model, settings, samples)
    trials = run_trials(model, candidates, samples)
    best = _best(trials, tie)
    # The order of the channels matters less than their range: it is asked about one range, unless none does.
    swapped = _swapped(model, settings, candidates if best is None else [best.candidate])
    more = run_trials(model, swapped, samples) if swapped else []
    if best is None or any(trial.fits and trial.accuracy > best.accuracy + tie for trial in more):
        best = _best(more, tie)
    if best is None:
        raise _nothing_fits(max(trials + more, key=lambda trial: trial.accuracy), model, samples, settings, display)
    chosen = best.candidate.preprocessing
    origin: Origin = "graph" if chosen == model.preprocessing and model.preprocessing.integer else "inferred"
    return Resolution(
        preprocessing=chosen,
        origin=origin,
        samples=len(samples),
        accuracy=best.accuracy,
        equally_good=tuple(
            trial.candidate.name
            for trial in trials + more
            if trial.fits
            and trial.accuracy >= best.accuracy - tie
            and trial.loss <= best.loss + CLEARLY_LOWER_LOSS
            and not same_meaning(trial.candidate.preprocessing, chosen)
        ),
    )


def _best(trials: list[Trial], tie: float) -> Trial | None:
    """The most accurate trial, or the first one if it is at most ``tie`` behind; None if none fits.

    Of those that are as accurate, another one is taken if its loss is clearly lower: a digit classifier that was
    trained with mean and std can get as many images in [0, 1] right, with logits that are much too small. Lower is not
    enough: where all answers are right, larger logits alone lower the loss.
    """
    fitting = [trial for trial in trials if trial.fits]
    if not fitting:
        return None
    highest = max(trial.accuracy for trial in fitting)
    level = [trial for trial in fitting if trial.accuracy >= highest - tie]
    best = level[0] if level[0] is trials[0] else max(level, key=lambda trial: trial.accuracy)
    lowest = min(trial.loss for trial in level)
    if best.loss <= lowest + CLEARLY_LOWER_LOSS:
        return best
    return next(trial for trial in level if trial.loss <= lowest + SAME_LOSS)


def _confirm(model: OpenedModel, settings: ScanSettings, samples: Samples, display: str) -> Resolution:
    candidates = _candidates(model, settings, samples)
    # Two standard deviations of the difference of two shares, at most.
    clearly = 2 / math.sqrt(len(samples))
    (declared,) = trials = run_trials(model, candidates[:1], samples)
    if not declared.fits or declared.accuracy < 1 - clearly:
        others = candidates[1:] + _swapped(model, settings, candidates)
        trials += run_trials(model, others, samples) if others else []
    better = _best([trial for trial in trials if trial.accuracy > declared.accuracy + clearly], 0.0)
    if better is None and declared.fits:
        return Resolution(
            preprocessing=model.preprocessing, origin="declared", samples=len(samples), accuracy=declared.accuracy
        )
    if better is None:
        raise _nothing_fits(declared, model, samples, settings, display)
    raise NotAssessableError(
        f"{display} classifies only {declared.accuracy:.0%} of {len(samples)} clean samples of {settings.data} "
        "correctly under the declared preprocessing, which is the wrong one.",
        remedy=(
            f"With {_settings_of(better, model)} it classifies "
            f"{better.accuracy:.0%} of them correctly: declare that, or remove input_range, mean and std to have it "
            "found."
        ),
    )


def _settings_of(trial: Trial, model: OpenedModel) -> str:
    return as_settings(trial.candidate.preprocessing, model.preprocessing)


def _nothing_fits(
    best: Trial, model: OpenedModel, samples: Samples, settings: ScanSettings, display: str
) -> NotAssessableError:
    under = (
        "under the declared preprocessing, and not enough under any usual one"
        if declares_range(settings)
        else f"even under the best of the usual preprocessings ({_settings_of(best, model)})"
    )
    guessing = "" if best.accuracy < LOWEST_ACCURACY else ", which guessing would reach too"
    return NotAssessableError(
        f"{display} classifies only {best.accuracy:.0%} of {len(samples)} clean samples of {settings.data} correctly "
        f"{under}{guessing}: too few to judge by.",
        remedy=(
            "Declare input_range, mean and std as the model was trained with; check layout, channel_order, the order "
            "of the classes and whether these samples are of the model's task."
        ),
    )
