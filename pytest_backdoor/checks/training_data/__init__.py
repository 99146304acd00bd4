"""Do some images of the training set lie in the model's feature space where clean images of their label do not?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import NotAssessableError
from ...findings import Finding, Outcome
from .._base import Context, Cost

if TYPE_CHECKING:
    from ...models import Subject
    from ._check import DataMeasurement, measure_training_data
    from ._exchangeability import Comparison, Comparisons

REMEDY = (
    "Look at the images that stand out (all of them: --backdoor-report scan.json, standing_out) and at the suspects "
    "after them, take out those that do not belong into their class, train again from the start, and find out where "
    "they came from."
)
MEANINGS = {
    "neighbours": "share of neighbours with another label",
    "spectral": "distance along the class's top direction",
    "spectral, other side": "distance along the class's top direction",
    "loss": "loss of their label",
}


class TrainingDataCheck:
    """Ranks the images of the training set, and tests whether they are like clean samples of the same classes.

    Sources: Deep k-NN (Peri et al., 2019), spectral signatures (Tran, Li and Madry, 2018); the loss of an image's label
    sees what the model itself does not believe. Neither paper says when a data set is to be refused: here it is by an
    exact test of exchangeability with clean samples (``_exchangeability``). Not behavioural: a set without signs says
    nothing about what a model does that was changed after training.
    """

    name: ClassVar[str] = "training-data"
    cost: ClassVar[Cost] = Cost.FORWARD
    behavioural: ClassVar[bool] = False

    def run(self, subject: Subject, context: Context) -> Finding:
        """The finding on the images of the ``train_data`` setting.

        Raises NotAssessableError without that setting, for a model without a last linear layer, and for images that
        it does not classify; SettingsError for images that do not fit it.
        """
        settings = context.settings
        if settings.train_data is None:
            raise NotAssessableError(
                "There is no training set to look at.",
                remedy="Name it with --backdoor-train-data: a folder CLASS/IMAGE.png, or an .npz file with x and y.",
            )
        from ._check import measure_training_data, open_training_data

        classifier = subject.classifier
        training, clean = open_training_data(classifier, settings, context.root)
        measured = measure_training_data(classifier, training, clean, seed=settings.seed, display=subject.display)
        return _judged(measured, subject, context.data_significance, settings.seed)


def _judged(measured: DataMeasurement, subject: Subject, significance: float, seed: int) -> Finding:
    from ._check import WITHOUT_CLEAN, score_of, why_not_enough
    from ._evidence import evidence_of

    compared = measured.comparisons if measured.unjudged is None else None
    evidence = evidence_of(
        measured.scores, measured.training, measured.names, compared, subject.class_name, significance
    )
    if compared is None:
        outcome, summary, remedy = Outcome.NOT_ASSESSED, f"{measured.unjudged} {_first(evidence)}", WITHOUT_CLEAN
    elif compared.p_value <= significance:
        outcome, summary, remedy = Outcome.FAILED, _suspicion(compared, subject, significance), REMEDY
    elif (short := why_not_enough(compared, significance, subject.class_name)) is not None:
        outcome, summary, remedy = Outcome.NOT_ASSESSED, short, WITHOUT_CLEAN
    else:
        outcome, summary, remedy = Outcome.PASSED, _reassurance(compared, evidence, significance), ""
    return Finding(
        check=TrainingDataCheck.name,
        behavioural=TrainingDataCheck.behavioural,
        outcome=outcome,
        summary=summary,
        remedy=remedy,
        score=None if compared is None else score_of(compared),
        p_value=None if compared is None else compared.p_value,
        evidence=evidence,
        seed=seed,
    )


def _first(evidence: dict[str, Any]) -> str:
    first = evidence["most_suspicious"][0]
    return (
        f"Of {evidence['images']} images, {first['image']} (class {first['label']}, nearest to class "
        f"{first['nearest']}) is the most suspicious one; the JSON report lists {len(evidence['suspects'])}."
    )


def _suspicion(compared: Comparisons, subject: Subject, significance: float) -> str:
    return f"{_told(compared.worst, subject)} {_how_sure(compared, significance)}"


def _told(worst: Comparison, subject: Subject) -> str:
    rank = "than any" if worst.depth == 1 else f"than number {worst.depth}"
    return (
        f"Of the {worst.training} training images of class {subject.class_name(worst.label)}, {worst.above} have a "
        f"larger {MEANINGS[worst.score]} {rank} of {worst.clean} clean samples of that class."
    )


def _how_sure(compared: Comparisons, significance: float) -> str:
    return (
        f"If they were alike, something as rare would be found with a probability of at most {compared.p_value:.2g} "
        f"(limit {significance:.2g}, {len(compared.made)} comparisons)."
    )


def _reassurance(compared: Comparisons, evidence: dict[str, Any], significance: float) -> str:
    return (
        "In no class do training images stand out from the clean samples more than chance allows (p = "
        f"{compared.p_value:.2g}, limit {significance:.2g}). Fewer than {evidence['fewest_to_fail']} poisoned images "
        "of a class may have gone unseen."
    )


def __getattr__(name: str) -> Any:
    """The scores without judgement are imported with NumPy when they are first asked for."""
    if name in ("DataMeasurement", "measure_training_data"):
        from . import _check

        return getattr(_check, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["DataMeasurement", "TrainingDataCheck", "measure_training_data"]
