"""Is there a small trigger that turns inputs into another class, smaller than clean models have?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import NotAssessableError, NotDifferentiableError
from ...settings import DEFAULT_FAMILIES, TRIGGER_FAMILIES, ScanSettings
from .._base import BehaviouralCheck, Context, Cost, Measurement
from ._measure_detector import BOX_PATCH_COMPONENT, measure_detector

if TYPE_CHECKING:
    from ...calibration import DetectorPack
    from ...models import Subject
    from ._check import Reversal, reverse
    from ._detectors import BoxReversal, reverse_detector
    from ._score import MOST_TARGETS, family_score, fit_statistics, held_out_scores


class ReversalCheck(BehaviouralCheck):
    """Seeks the trigger of every family and class that drives the model furthest, and compares that with clean models.

    Source: Universal Litmus Patterns §3.4.2 and Neural Cleanse. What is found is judged against clean reference models
    of the same task, not by the anomaly index within the model, which flags clean models and misses backdoors.
    """

    name = "reversal"
    cost = Cost.GRADIENT

    def components(self, settings: ScanSettings) -> tuple[str, ...]:
        """One score for each trigger family, named after the images that it is sought on."""
        kind = "prototypes" if settings.data is None else "samples"
        return tuple(component(self.name, kind, family) for family in settings.families or DEFAULT_FAMILIES)

    def measure(self, subject: Subject, context: Context) -> Measurement:
        """The scores are how far the best trigger of each family stands out.

        Raises NotAssessableError without torch or a fitting pack, and before any search if the pack has no reference
        scores to judge a trigger by.
        """
        detector = subject.detector
        if detector is not None:
            return measure_detector(subject, detector, context)
        from ...calibration import broad_note

        settings = context.settings
        pack, _ = context.chosen_pack(subject)  # refuses a model of another task
        known = _judged_families(pack, self.components(settings))
        try:
            from .._threads import single_threaded
            from . import _check, _evidence
        except ImportError as error:
            raise NotAssessableError(
                f"Trigger reversal needs torch ({error}): pip install 'pytest-backdoor[torch]'."
            ) from None
        samples = context.samples_for(subject)
        try:
            reversal = _check.reverse(
                subject.classifier,
                samples,
                seed=settings.seed,
                device=settings.device,
                families=tuple(known),
                prototypes=pack.prototypes,
            )
        except NotDifferentiableError as error:
            from ._fallback import measure_without_gradients

            return measure_without_gradients(subject, samples, pack, seed=settings.seed, reason=str(error))
        scores = reversal.scores(
            {family: pack.statistics[name] for family, name in known.items() if name in pack.statistics}
        )
        components = {known[family]: score.value for family, score in scores.items()}
        worst = max(scores, key=lambda family: pack.standardised(known[family], scores[family].value))
        note = broad_note(scores[worst].table) if known[worst] in pack.statistics else ""
        with single_threaded():
            evidence = _evidence.evidence_of(reversal, worst, scores, subject.class_name)
        return Measurement(
            components=components,
            pack=pack,
            suspicion=f"{_suspicion(evidence)} {note}".strip(),
            reassurance=_reassurance(evidence),
            remedy=(
                "Do not deploy this model. Look at the trigger in a report (--backdoor-report scan.html), paste "
                "it onto images of your own to confirm, and get the model from another source."
            ),
            evidence={**evidence, "component": known[worst]},
            seed=settings.seed,
        )


def component(check: str, kind: str, family: str) -> str:
    """The name of a family's reference scores; ``kind``: "samples" or "prototypes"."""
    return f"{check}-{kind}/{family}"


def _judged_families(pack: DetectorPack, components: tuple[str, ...]) -> dict[str, str]:
    """The component of each family that the pack has references for. Raises NotAssessableError if there is none."""
    known = {name.partition("/")[2]: name for name in components if name in pack.references}
    if not known:
        raise NotAssessableError(
            f"The detector pack {pack.name!r} holds no reference scores of trigger reversal for these trigger "
            "families, so what is found could not be judged.",
            remedy="To have them, build a pack of your own without --no-reversal (docs/detector-packs.md).",
        )
    return known


def _where_from(evidence: dict[str, Any]) -> str:
    if evidence["images"] == "samples":
        return "held-out clean samples"
    return "made-up images of the detector pack (no clean samples were given)"


def _trigger(evidence: dict[str, Any]) -> str:
    if evidence["family"] in ("patch", "source-patch", "pixels"):
        return f"A trigger of {evidence['mask_size']:.1f} of {evidence['image_area']} pixels"
    return f"A trigger ({evidence['family_meaning']}: {evidence['where']})"


def _suspicion(evidence: dict[str, Any]) -> str:
    share = f"{evidence['flipped']:.0%} of {evidence['flipped_of']} {_where_from(evidence)}"
    if evidence["target_class"] is None:
        return f"{_trigger(evidence)} makes {share} leave their class, for no single target class."
    return f"{_trigger(evidence)} turns {share} into class {evidence['target_name']}."


def _reassurance(evidence: dict[str, Any]) -> str:
    families = ", ".join(evidence["families"])
    return (
        f"No class can be reached more easily than in clean models, by a trigger of the families {families}; sought on "
        f"{_where_from(evidence)}."
    )


_WITH_TORCH = ("reverse", "Reversal")
_OF_DETECTORS = ("BoxReversal", "reverse_detector")
_WITH_NUMPY = ("MOST_TARGETS", "family_score", "fit_statistics", "held_out_scores")


def __getattr__(name: str) -> Any:
    """The search without judgement, and the arithmetic of its scores, imported when first asked for."""
    if name in _WITH_TORCH:
        from . import _check

        return getattr(_check, name)
    if name in _OF_DETECTORS:
        from . import _detectors

        return getattr(_detectors, name)
    if name in _WITH_NUMPY:
        from . import _score

        return getattr(_score, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BOX_PATCH_COMPONENT",
    "DEFAULT_FAMILIES",
    "MOST_TARGETS",
    "TRIGGER_FAMILIES",
    "BoxReversal",
    "Reversal",
    "ReversalCheck",
    "component",
    "family_score",
    "fit_statistics",
    "held_out_scores",
    "reverse",
    "reverse_detector",
]
