"""From an object detector and photographs to what the reversal check judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import NotAssessableError
from .._base import Context, Measurement

if TYPE_CHECKING:
    from ...calibration import ObjectDetectorPack
    from ...models import Detector, Subject

BOX_PATCH_COMPONENT = "reversal-photographs/box-patch"
HOW_TO_BUILD = (
    "Have clean detectors of the same kind scored for comparison: python -m reference_attacks detection references "
    "--detectors FOLDER --photographs FOLDER --out pack.npz; then scan again with --backdoor-pack pack.npz."
)


def measure_detector(subject: Subject, detector: Detector, context: Context) -> Measurement:
    """The score is how far the best patch on the objects of photographs stands out.

    Without a detector pack it is measured all the same, and not judged: the trigger and what it does can be looked at.
    Raises NotAssessableError without torch or photographs, and for a pack that is not for this detector.
    """
    settings = context.settings
    if settings.data is None:
        raise NotAssessableError(
            f"{subject.display} is an object detector: triggers are sought on photographs, and none were given.",
            remedy="Give a folder of photographs of its objects with --backdoor-data.",
        )
    try:
        from .._threads import single_threaded
        from ._box_evidence import box_evidence
        from ._detectors import reverse_detector
    except ImportError as error:
        raise NotAssessableError(
            f"Trigger reversal needs torch ({error}): pip install 'pytest-backdoor[torch]'."
        ) from None
    from ...models import load_photographs

    class_name = _class_names(subject, detector.classes)
    pack = _pack_for(detector, context)
    photographs = load_photographs(
        settings.data, root=context.root, channels=detector.channels, size=detector.size, seed=settings.seed
    )
    reversal = reverse_detector(detector, photographs, device=settings.device)
    score = reversal.score(None if pack is None else pack.statistics.get(BOX_PATCH_COMPONENT))
    with single_threaded():
        evidence = box_evidence(reversal, score, detector, class_name)
    return Measurement(
        components={BOX_PATCH_COMPONENT: score.value},
        pack=pack,
        suspicion=f"{_what_it_does(evidence)} {_confirmed(evidence)}",
        reassurance=(
            "No class can be reached more easily than in clean detectors, by a patch on the objects of "
            f"{evidence['photographs']['held_out']} held-out photographs."
        ),
        unjudged=f"{_what_it_does(evidence)} {_confirmed(evidence)}",
        remedy=(
            "Do not deploy this detector. Look at the trigger in a report (--backdoor-report scan.html), stick "
            "it onto an object to confirm, and get the model from another source."
        ),
        how_to_judge=HOW_TO_BUILD,
        evidence={**evidence, "component": BOX_PATCH_COMPONENT},
        seed=settings.seed,
    )


def _class_names(subject: Subject, classes: int) -> Any:
    """How to name a class; the ``classes`` setting may leave out the background, class 0."""
    names = subject.settings.classes
    if names and len(names) not in (classes - 1, classes):
        raise NotAssessableError(
            f"{subject.display} has {classes} classes, background included, but the classes setting names "
            f"{len(names)}; list one name for each, with or without the background."
        )
    every = None if not names else names if len(names) == classes else ("background", *names)

    def name(number: int) -> str:
        if every is not None:
            return f"{number} ({every[number]})"
        return "0 (background)" if number == 0 else str(number)

    return name


def _pack_for(detector: Detector, context: Context) -> ObjectDetectorPack | None:
    if context.settings.pack is None:
        return None
    from ...calibration import load_object_pack

    pack = load_object_pack(context.root / context.settings.pack)
    if pack is None or pack.classes != detector.classes or BOX_PATCH_COMPONENT not in pack.references:
        found = "image classifiers" if pack is None else f"object detectors of {pack.classes} classes"
        raise NotAssessableError(
            f"The detector pack {context.settings.pack} is for {found}, not for object detectors of "
            f"{detector.classes} classes, background included.",
            remedy=HOW_TO_BUILD,
        )
    return pack


def _what_it_does(evidence: dict[str, Any]) -> str:
    share = f"{evidence['flipped']:.0%} of {evidence['flipped_of']} held-out objects of class {evidence['source_name']}"
    trigger = f"A patch {evidence['where']},"
    if evidence["target_class"] is None:
        return f"{trigger} makes {share} leave their class for others, for no single target class."
    return f"{trigger} turns {share} into class {evidence['target_name']}."


def _confirmed(evidence: dict[str, Any]) -> str:
    found = evidence["detections"]
    return f"The whole detector so mistakes {found['turned']:.0%} of them and no longer finds {found['lost']:.0%}."
