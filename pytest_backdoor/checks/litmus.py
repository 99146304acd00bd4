"""Do a model's logits on Universal Litmus Patterns look like those of a backdoored network?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import NotAssessableError
from ._base import BehaviouralCheck, Context, Cost, Measurement

if TYPE_CHECKING:
    import numpy as np

    from ..calibration import DetectorPack
    from ..models import Subject


def litmus_features(logits: Any) -> Any:
    """The pooled feature vector, ``(..., M·K)``, of logits ``(..., M, K)`` on M patterns; NumPy arrays or tensors.

    Concatenation, the paper's pooling operator g (Universal Litmus Patterns, eq. 1). Deviation: each pattern's logits
    are centred and all of one network's are divided by their root mean square, since a network that was trained
    longer has larger logits, which says nothing about a backdoor; and since logits, log-softmax and softmax outputs
    then give the same features.
    """
    centred = logits - logits.mean(axis=-1, keepdims=True)
    flat = centred.reshape(*centred.shape[:-2], -1)
    return flat / ((flat**2).mean(axis=-1, keepdims=True) ** 0.5 + 1e-12)


def choose_pack(packs: Sequence[DetectorPack], subject: Subject) -> tuple[DetectorPack, np.ndarray[Any, Any]]:
    """The one of ``packs`` that is for the subject's task, and the subject's logits on its patterns.

    The logits are float32 ``(M, K)``, rows of mean zero. One run answers the patterns of all packs; where those answers
    are like none of their templates, as those of a backdoored model are, a second one answers their prototypes. Of
    several packs the one whose template the answers resemble most is chosen. Raises NotAssessableError if they resemble
    none: a pack's figures hold for networks of its own task alone, and the same input shape and number of classes do
    not make it the same task.
    """
    answers = _answers(subject, [pack.patterns for pack in packs])
    similarity, chosen = _most_similar(answers, [pack.pattern_template for pack in packs])
    if similarity < packs[chosen].sure_similarity:
        shown = _answers(subject, [pack.prototypes for pack in packs])
        similarity, chosen = _most_similar(shown, [pack.prototype_template for pack in packs])
        _require_similarity(similarity, packs[chosen], subject)
    return packs[chosen], answers[chosen]


def _answers(subject: Subject, images: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The subject's logits on each of several arrays of images, in one run."""
    if len(images) == 1:
        return [subject.classifier.logits(images[0])]
    import numpy as np

    ends = np.cumsum([len(part) for part in images])
    return np.split(subject.classifier.logits(np.concatenate(images)), ends[:-1])


def _most_similar(
    answers: Sequence[np.ndarray[Any, Any]], templates: Sequence[np.ndarray[Any, Any]]
) -> tuple[float, int]:
    """The highest similarity of answers to their template, and which it is."""
    return max((features_product(*pair), number) for number, pair in enumerate(zip(answers, templates, strict=True)))


def _require_similarity(similarity: float, pack: DetectorPack, subject: Subject) -> None:
    if similarity >= pack.least_similarity:
        return
    from ..calibration import how_to_build

    raise NotAssessableError(
        f"{subject.display} answers the {len(pack.prototypes)} prototype images of the detector pack "
        f"{pack.name!r} unlike networks of its task (similarity {similarity:.2f}, at least "
        f"{pack.least_similarity:.2f}): it was trained for another task or is of another architecture, its classes are "
        "in another order, or its preprocessing is not the declared one.",
        remedy=f"Check input_range, mean, std and layout. If they are right: {how_to_build(pack.input_shape)}",
    )


def features_product(logits: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
    """``litmus_features(logits) @ weights`` of ``(M, K)`` logits whose rows have mean zero, with no array made."""
    flat = logits.reshape(-1)
    return float(flat @ weights) / _root_mean_square(flat)


def _root_mean_square(flat: np.ndarray[Any, Any]) -> float:
    return math.sqrt(float(flat @ flat) / flat.size) + 1e-12


def pack_score(pack: DetectorPack, logits: np.ndarray[Any, Any]) -> float:
    """The score of a model from its logits ``(M, K)``, rows of mean zero, on the patterns of ``pack``.

    Linear as in Universal Litmus Patterns, or, where the pack has offsets, the log-sum-exp of how far the logits
    deviate from those of clean networks: each for itself, or summed up over patterns.
    """
    if pack.offsets is None:
        return features_product(logits, pack.weights) + pack.bias
    import numpy as np

    flat = logits.reshape(-1)
    weighted = flat * pack.weights / _root_mean_square(flat)
    if len(pack.offsets) == logits.shape[1]:
        weighted = weighted.reshape(logits.shape).sum(axis=0)
    deviations = weighted + pack.offsets
    highest = float(deviations.max())
    # Against overflow the highest is taken out of the sum.
    return pack.gain * (highest + math.log(float(np.exp(deviations - highest).sum()))) + pack.bias


class LitmusCheck(BehaviouralCheck):
    """Feeds the detector pack's patterns to the model as one batch and classifies the logits.

    Source: Universal Litmus Patterns, §3.3. No data, no gradients, no torch.
    """

    name = "litmus"
    cost = Cost.FORWARD

    def measure(self, subject: Subject, context: Context) -> Measurement:
        """The score is the classifier's output: the log-odds that the network is backdoored."""
        pack, logits = context.chosen_pack(subject)
        answers = f"Its answers to {len(pack.patterns)} litmus patterns look like those of a"
        return Measurement(
            components={self.name: pack_score(pack, logits)},
            pack=pack,
            suspicion=f"{answers} backdoored network.",
            reassurance=f"{answers} clean network.",
            remedy=(
                "Do not deploy this model. Get it from another source, or train it yourself; the reversal check may "
                "show the trigger."
            ),
            evidence={"pack": pack.name, "patterns": len(pack.patterns)},
        )
