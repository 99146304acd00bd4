"""Look at a training set through a model, score its images, and compare them with clean samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import NotAssessableError
from ...models import LOWEST_ACCURACY, ImageSource, open_images
from ._exchangeability import FEWEST_CLEAN, Comparisons
from ._pool import Looked, Progress, look_at, make_pool
from ._scores import DataScores, score_pool

if TYPE_CHECKING:
    from ...models import Classifier
    from ...settings import ScanSettings

MOST_CLEAN = 20_000
WITHOUT_CLEAN = (
    "Give clean samples with labels (--backdoor-data), some hundreds of each class that you trust and that were drawn "
    "as the training images were. They may be a part of the training set that you have looked through."
)


@dataclass(frozen=True, kw_only=True)
class DataMeasurement:
    """What was found. ``unjudged``: why the images cannot be judged, None if they can.

    ``names``: where each training image is. ``comparisons``: None without labelled clean samples.
    """

    scores: DataScores
    training: Looked
    names: list[str]
    comparisons: Comparisons | None
    unjudged: str | None


def measure_training_data(
    classifier: Classifier,
    training: ImageSource,
    clean: ImageSource | None,
    *,
    seed: int,
    display: str = "The model",
    on_progress: Progress | None = None,
) -> DataMeasurement:
    """Score the images of ``training`` by a model's features and, where there are labelled ``clean`` samples, compare.

    At most 20,000 clean samples are drawn. ``on_progress`` is told what is done, how far it is, and of how many. The
    same ``seed`` gives the same result on the same machine. Raises NotAssessableError for images without labels, and
    where the model gives most of the images other labels than they have, since its features then mean nothing.
    """
    if training.labels is None:
        raise NotAssessableError(
            f"The training images {training.path} have no labels; give them in y, or as folders CLASS/IMAGE.png."
        )
    training.require_labels_of_model(training.labels)
    if not len(training):
        raise NotAssessableError(f"{training.path} holds no training images; check train_data.")
    looked = look_at(classifier, training, training.labels, np.arange(len(training)), on_progress)
    _require_accuracy(looked, training, display)
    trusted = None
    if clean is not None and clean.labels is not None and len(clean):
        clean.require_labels_of_model(clean.labels)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(clean))[:MOST_CLEAN])
        trusted = look_at(classifier, clean, clean.labels, chosen, on_progress)
        _require_accuracy(trusted, clean, display)
    scores = score_pool(make_pool(looked, trusted, seed), on_progress)
    comparisons = None if trusted is None else scores.compare()
    return DataMeasurement(
        scores=scores,
        training=looked,
        names=list(training.names),
        comparisons=comparisons,
        unjudged=_why_unjudged(clean, comparisons),
    )


def open_training_data(
    classifier: Classifier, settings: ScanSettings, root: Path
) -> tuple[ImageSource, ImageSource | None]:
    """The ``train_data`` of the settings, and the ``data`` if it is given. Raises SettingsError."""
    assert settings.train_data is not None
    shape = {"root": root, "input_shape": classifier.input_shape, "classes": classifier.classes}
    given: dict[str, Any] = {**shape, "class_names": settings.classes}
    training = open_images(settings.train_data, setting="train_data", **given)
    return training, None if settings.data is None else open_images(settings.data, setting="data", **given)


def why_not_enough(comparisons: Comparisons, significance: float, class_name: Callable[[int], str]) -> str | None:
    """Why what was compared cannot pass at this significance: classes that no finding could have failed."""
    blind = [label for label in comparisons.labels() if comparisons.fewest_to_fail(label, significance) is None]
    short = [*comparisons.missing, *blind]
    if not short:
        return None
    names = ", ".join(class_name(label) for label in short[:5]) + (", …" if len(short) > 5 else "")
    return (
        f"{len(short)} of {len(comparisons.labels()) + len(comparisons.missing)} classes of the training set have too "
        f"few clean samples to be judged by (at least {FEWEST_CLEAN}, and enough for p = {significance:.2g}): {names}."
    )


def _require_accuracy(looked: Looked, source: ImageSource, display: str) -> None:
    if looked.accuracy < LOWEST_ACCURACY:
        raise NotAssessableError(
            f"{display} gives only {looked.accuracy:.0%} of the images of {source.path} their label, so its features "
            "say nothing about them: check input_range, mean, std, layout and the order of the classes."
        )


def _why_unjudged(clean: ImageSource | None, comparisons: Comparisons | None) -> str | None:
    if clean is None:
        return "There are no clean samples to compare the training images with."
    if comparisons is None:
        return "The clean samples have no labels, so the training images cannot be compared with them."
    if not comparisons.made:
        return f"No class of the training set has {FEWEST_CLEAN} clean samples to compare its images with."
    return None


def score_of(comparisons: Comparisons) -> float:
    """The score of the finding: -log10 of the p-value, 0 or more."""
    return round(-comparisons.log_p / math.log(10), 4) + 0.0
