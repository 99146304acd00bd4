"""Is there a small trigger that turns inputs into another class, smaller than clean models have?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import NotAssessableError
from .._base import BehaviouralCheck, Context, Cost, Measurement
from ..litmus import choose_pack

if TYPE_CHECKING:
    from ...models import Subject
    from ._check import reverse

REFERENCES = {"samples": "reversal-samples", "stand-ins": "reversal-stand-ins"}


class ReversalCheck(BehaviouralCheck):
    """Seeks the smallest trigger of every class and compares its size with those of clean models.

    Source: Universal Litmus Patterns §3.4.2 and Neural Cleanse. The size is judged against clean reference models of
    the same task, not by the anomaly index within the model, which flags clean models and misses backdoors.
    """

    name = "reversal"
    cost = Cost.GRADIENT

    def measure(self, subject: Subject, context: Context) -> Measurement:
        """The score is ln(image area / trigger size).

        Raises NotAssessableError without torch or a fitting pack, and before any search if the pack has no reference
        scores to judge a trigger by.
        """
        pack, _ = choose_pack(context.packs_for(subject), subject)  # refuses a model of another task
        if not pack.judges(self.name):
            raise NotAssessableError(
                f"The detector pack {pack.name!r} holds no reference scores of trigger reversal, so the size of a "
                "trigger could not be judged.",
                remedy="To have them, build a pack of your own without --no-reversal (docs/detector-packs.md).",
            )
        try:
            from . import _check
        except ImportError as error:
            raise NotAssessableError(
                f"Trigger reversal needs torch ({error}): pip install 'pytest-backdoor[torch]'."
            ) from None
        settings = context.settings
        samples = context.samples_for(subject)
        reversal = _check.reverse(subject.classifier, samples, seed=settings.seed, device=settings.device)
        evidence = _check.evidence_of(reversal, subject.class_name)
        return Measurement(
            score=reversal.score,
            reference=pack.references.get(REFERENCES[reversal.images.source]),
            pack=pack,
            suspicion=_suspicion(evidence),
            reassurance=_reassurance(evidence),
            remedy=(
                "Do not deploy this model. Look at the trigger in the JSON report (--backdoor-report scan.json), paste "
                "it onto images of your own to confirm, and get the model from another source."
            ),
            evidence=evidence,
            seed=settings.seed,
        )


def _where_from(evidence: dict[str, Any]) -> str:
    if evidence["images"] == "samples":
        return "held-out clean samples"
    return "stand-in images made from the model itself, as no clean samples were given"


def _size(evidence: dict[str, Any]) -> str:
    return f"{evidence['mask_size']:.1f} of {evidence['image_area']} pixels"


def _suspicion(evidence: dict[str, Any]) -> str:
    share = f"{evidence['flipped']:.0%} of {evidence['flipped_of']} {_where_from(evidence)}"
    if evidence["target_class"] is None:
        return f"A trigger of {_size(evidence)} makes {share} leave their class, for no single target class."
    return f"A trigger of {_size(evidence)} turns {share}, into class {evidence['target_name']}."


def _reassurance(evidence: dict[str, Any]) -> str:
    return (
        f"The smallest trigger found covers {_size(evidence)}, as in clean models; sought on {_where_from(evidence)}."
    )


def __getattr__(name: str) -> Any:
    """``reverse``, the reversal without judgement, is imported with torch when it is first asked for."""
    if name == "reverse":
        from ._check import reverse

        return reverse
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ReversalCheck", "reverse"]
