"""Do a model's logits on Universal Litmus Patterns look like those of a backdoored network?"""

from __future__ import annotations

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


def litmus_logits(pack: DetectorPack, subject: Subject) -> np.ndarray[Any, Any]:
    """The subject's logits on the patterns of ``pack``, float32 ``(M, K)``, with the prototypes in the same batch.

    Raises NotAssessableError if the subject does not take the prototypes for their classes. A pack's figures hold for
    networks of its own task alone, and the same input shape and number of classes do not make it the same task.
    """
    import numpy as np

    logits = subject.classifier.logits(np.concatenate([pack.patterns, pack.prototypes]))
    patterns, prototypes = logits[: len(pack.patterns)], logits[len(pack.patterns) :]
    recognised = int((prototypes.argmax(axis=1) == np.arange(pack.classes)).sum())
    if recognised < pack.least_recognised:
        raise NotAssessableError(
            f"{subject.display} recognises {recognised} of the {pack.classes} prototype images of the detector pack "
            f"{pack.name!r}, fewer than the {pack.least_recognised} that networks of its task recognise: it was "
            "trained for another task, its classes are in another order, or its preprocessing is not the declared "
            "one. Check input_range, mean, std and layout, or build a pack for its task."
        )
    return patterns


class LitmusCheck(BehaviouralCheck):
    """Feeds the detector pack's patterns to the model as one batch and classifies the logits linearly.

    Source: Universal Litmus Patterns, §3.3. No data, no gradients, no torch.
    """

    name = "litmus"
    cost = Cost.FORWARD

    def measure(self, subject: Subject, context: Context) -> Measurement:
        """The score is the linear classifier's output: the log-odds that the network is backdoored."""
        pack = context.pack_for(subject)
        features = litmus_features(litmus_logits(pack, subject))
        score = float(features @ pack.weights + pack.bias)
        return Measurement(
            score=score,
            reference=pack.references.get("litmus"),
            suspicion=f"Its answers to {len(pack.patterns)} litmus patterns look like those of a backdoored network.",
            reassurance=f"Its answers to {len(pack.patterns)} litmus patterns look like those of a clean network.",
            remedy=(
                "Do not deploy this model. Get it from another source, or train it yourself; the reversal check may "
                "show the trigger."
            ),
            evidence={"pack": pack.name, "patterns": len(pack.patterns)},
        )
