"""What a check is, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final, runtime_checkable

from ..errors import NotAssessableError, SettingsError
from ..findings import Finding
from ..models import FEWEST_SAMPLES, LOWEST_ACCURACY, Samples, Subject, load_samples
from ..settings import ScanSettings

if TYPE_CHECKING:
    import numpy as np

    from ..calibration import DetectorPack, ObjectDetectorPack

MOST_SAMPLES = 2000
# Of the false-positive rate, for the check of the training set. Nothing keeps its p-values from being tiny, while those
# of the other checks cannot fall below 1 / (1 + n) for n clean reference models: 100 still support what is left.
DATA_SHARE = 0.005


class Cost(StrEnum):
    """What a check has to do to a model; checks run from the cheapest to the dearest."""

    FILE = "file"
    FORWARD = "forward"
    GRADIENT = "gradient"


@runtime_checkable
class Check(Protocol):
    """One question asked of a model.

    ``name`` is unique and part of node ids. ``behavioural`` says whether it looks at what the model does. Third
    parties offer checks as entry points of the group ``pytest_backdoor.checks``.
    """

    name: ClassVar[str]
    cost: ClassVar[Cost]
    behavioural: ClassVar[bool]

    def run(self, subject: Subject, context: Context) -> Finding:
        """The finding on ``subject``. Raises ModelError or NotAssessableError, which become findings too."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a check may use beside the subject.

    ``root``: the folder that relative settings start from. ``behavioural_checks``: the names of the behavioural checks
    that the scan plans, among which the false-positive rate is shared out. ``judges_data``: whether the scan plans to
    judge the training set, too.
    """

    settings: ScanSettings
    root: Path
    behavioural_checks: tuple[str, ...]
    judges_data: bool = False

    @property
    def data_significance(self) -> float:
        """The p-value at or below which the check of the training set fails: its share of the ``fpr``.

        All of it if no behavioural check is planned, else ``DATA_SHARE`` (Bonferroni with unequal weights).
        """
        return self.settings.fpr * (DATA_SHARE if self.behavioural_checks else 1.0)

    @property
    def significance(self) -> float:
        """The p-value at or below which a behavioural check fails.

        The ``fpr``, less the share of the check of the training set where that judges, shared out among the behavioural
        checks of third parties, each for itself, and all that are judged by a detector pack, which are judged jointly.
        """
        apart = len(self.behavioural_checks) - len(self._judged_jointly)
        rate = self.settings.fpr * (1 - DATA_SHARE * self.judges_data)
        return rate / max(1, apart + bool(self._judged_jointly))

    def planned_components(self) -> tuple[str, ...]:
        """The names of all scores that the planned checks ask for, of which a detector pack may know some."""
        return tuple(name for check in self._judged_jointly for name in check.components(self.settings))

    @cached_property
    def _judged_jointly(self) -> list[BehaviouralCheck]:
        from . import load_check

        found = []
        for name in self.behavioural_checks:
            # A check that cannot be loaded is an error of that check alone.
            with suppress(SettingsError):
                check = load_check(name)
                if isinstance(check, BehaviouralCheck):
                    found.append(check)
        return found

    def packs_for(self, subject: Subject) -> tuple[DetectorPack, ...]:
        """The detector packs whose images and classes fit the subject's. Raises NotAssessableError if there is none.

        They are looked for once, so that all checks of a scan judge by the same ones. Among several, ``chosen_pack``
        is the one of the subject's task.
        """
        classifier = subject.classifier
        task = classifier.input_shape, classifier.classes
        if task not in self._found_packs:
            from ..calibration import find_packs

            pack = None if self.settings.pack is None else self.root / self.settings.pack
            self._found_packs[task] = find_packs(*task, given=pack)
        return self._found_packs[task]

    @cached_property
    def _found_packs(self) -> dict[tuple[tuple[int, int, int], int], tuple[DetectorPack, ...]]:
        return {}

    def chosen_pack(self, subject: Subject) -> tuple[DetectorPack, np.ndarray[Any, Any]]:
        """See ``checks.litmus.choose_pack``, which is asked once for all checks of a scan."""
        from .litmus import choose_pack

        if subject.display not in self._chosen:
            self._chosen[subject.display] = choose_pack(self.packs_for(subject), subject)
        return self._chosen[subject.display]

    @cached_property
    def _chosen(self) -> dict[str, tuple[DetectorPack, np.ndarray[Any, Any]]]:
        return {}

    def samples_for(self, subject: Subject) -> Samples | None:
        """Clean samples from the ``data`` setting, None if there is none.

        Raises SettingsError for samples that do not fit and NotAssessableError where the model cannot classify them,
        since then its preprocessing or its class order is not what the settings say.
        """
        if self.settings.data is None:
            return None
        if subject.display not in self._loaded:
            self._loaded[subject.display] = self._load_samples(subject, self.settings.data)
        return self._loaded[subject.display]

    @cached_property
    def _loaded(self) -> dict[str, Samples]:
        return {}

    def _load_samples(self, subject: Subject, source: str) -> Samples:
        classifier = subject.classifier
        samples = load_samples(
            source,
            root=self.root,
            input_shape=classifier.input_shape,
            classes=classifier.classes,
            class_names=self.settings.classes,
            limit=MOST_SAMPLES,
            seed=self.settings.seed,
        )
        if len(samples) < FEWEST_SAMPLES:
            raise NotAssessableError(f"{source} holds {len(samples)} clean samples; give at least {FEWEST_SAMPLES}.")
        _require_accuracy(subject, samples, source)
        return samples


def _require_accuracy(subject: Subject, samples: Samples, source: str) -> None:
    predicted = subject.classifier.logits(samples.images).argmax(axis=1)
    of_one_class = samples.labels is not None and len(set(samples.labels.tolist())) == 1
    if len(set(predicted.tolist())) == 1 and not of_one_class:
        raise NotAssessableError(
            f"{subject.display} predicts class {predicted[0]} for every clean sample of {source}: its preprocessing is "
            "probably not the declared one. Check input_range, mean, std and layout."
        )
    if samples.labels is None:
        return
    accuracy = float((predicted == samples.labels).mean())
    if accuracy < LOWEST_ACCURACY:
        raise NotAssessableError(
            f"{subject.display} classifies only {accuracy:.0%} of the clean samples of {source} correctly, too few to "
            "judge by: check input_range, mean, std, layout and the order of the classes."
        )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a behavioural check measured, before it is judged.

    ``components``: one or more scores by the names that a detector pack has reference scores for, higher is more
    suspicious. ``pack``: whose references they are compared with, None where there is none. ``suspicion`` and
    ``reassurance`` are the summaries for either judgement, ``unjudged`` the one where there is none. ``remedy`` says
    what to do if the check fails, ``how_to_judge`` where there are no references, if something better than naming a
    pack is known.
    """

    components: Mapping[str, float]
    pack: DetectorPack | ObjectDetectorPack | None
    suspicion: str
    reassurance: str
    unjudged: str = ""
    remedy: str
    how_to_judge: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


class BehaviouralCheck(ABC):
    """Base of checks that measure what a model does and leave the judgement to the calibration."""

    name: ClassVar[str]
    cost: ClassVar[Cost]
    behavioural: ClassVar[bool] = True

    def components(self, settings: ScanSettings) -> tuple[str, ...]:
        """The names of the scores that this check measures under ``settings``."""
        return (self.name,)

    @abstractmethod
    def measure(self, subject: Subject, context: Context) -> Measurement:
        """The measured scores with their evidence."""

    @final
    def run(self, subject: Subject, context: Context) -> Finding:
        """Measure and judge."""
        from ..calibration import judge_jointly

        measured = self.measure(subject, context)
        references = {} if measured.pack is None else measured.pack.references
        judgement = judge_jointly(
            measured.components, references, context.significance, planned=context.planned_components()
        )
        unjudged_remedy = judgement.remedy if references else measured.how_to_judge or judgement.remedy
        summaries = {True: measured.suspicion, False: measured.reassurance, None: measured.unjudged}
        return Finding(
            check=self.name,
            behavioural=True,
            outcome=judgement.outcome,
            summary=f"{summaries[judgement.suspicious]} {judgement.explanation}".strip(),
            remedy=measured.remedy if judgement.suspicious else unjudged_remedy,
            score=judgement.score if judgement.score is not None else max(measured.components.values()),
            p_value=judgement.p_value,
            evidence={
                **measured.evidence,
                "components": dict(measured.components),
                "reference": judgement.evidence(),
            },
            seed=measured.seed,
        )
