"""Without any data: does a small patch give a class a larger margin than any patch gives one in clean models?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import NotAssessableError
from .._base import BehaviouralCheck, Context, Cost, Measurement
from ._score import margin_deviations, margin_score

if TYPE_CHECKING:
    from ...models import Subject
    from ._check import measure_margins


class MarginCheck(BehaviouralCheck):
    """Maximises the margin of every class over small patches on the images that a detector pack made up.

    Source: the maximum margin statistic (Wang et al., "MM-BD", IEEE S&P 2024). Deviations: see ``class_margins``; and
    the largest margin is judged against those of clean reference models of the same task, not against the model's other
    classes, of which there may be few, and of which some have larger margins by nature.
    """

    name = "margin"
    cost = Cost.GRADIENT

    def measure(self, subject: Subject, context: Context) -> Measurement:
        """The score is how far the most deviating margin lies above clean models' (``margin_score``).

        Raises NotAssessableError without torch or a fitting pack, and before any search if the pack has no reference
        scores to judge a margin by.
        """
        pack, _ = context.chosen_pack(subject)  # refuses a model of another task
        if not pack.judges(self.name):
            raise NotAssessableError(
                f"The detector pack {pack.name!r} holds no reference scores of maximum margins, so a margin could not "
                "be judged.",
                remedy="To have them, build a pack of your own (docs/detector-packs.md).",
            )
        try:
            from . import _check
        except ImportError as error:
            raise NotAssessableError(
                f"Maximum margins need torch ({error}): pip install 'pytest-backdoor[torch]'."
            ) from None
        from ...calibration import broad_note

        settings = context.settings
        result = _check.measure_margins(subject.classifier, pack.prototypes, seed=settings.seed, device=settings.device)
        statistics = pack.statistics.get(self.name)
        evidence = _check.evidence_of(result, subject.class_name, statistics)
        patch = _patch(evidence)
        note = "" if statistics is None else broad_note(margin_deviations(result.margins, statistics))
        return Measurement(
            components={self.name: margin_score(result.margins, statistics)},
            pack=pack,
            suspicion=f"{patch}, more than clean models allow. {note}".strip(),
            reassurance=f"{patch}, as in clean models.",
            remedy=(
                "Do not deploy this model. Look at the patch in a report (--backdoor-report scan.html), paste "
                "it onto images of your own to confirm, and get the model from another source."
            ),
            evidence={"pack": pack.name, "component": self.name, **evidence},
            seed=settings.seed,
        )


def _patch(evidence: dict[str, Any]) -> str:
    high, wide = evidence["patch_size"]
    where = "on the middle" if evidence["place"] == "middle" else f"in the {evidence['place']} corner"
    return (
        f"The most effective patch of {high} x {wide} pixels, {where}, gives class {evidence['target_name']} a mean "
        f"margin of {evidence['margin']:.2f} on images of other classes"
    )


def __getattr__(name: str) -> Any:
    """``measure_margins``, the margins without judgement, is imported with torch when it is first asked for."""
    if name == "measure_margins":
        from ._check import measure_margins

        return measure_margins
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MarginCheck", "margin_deviations", "margin_score", "measure_margins"]
