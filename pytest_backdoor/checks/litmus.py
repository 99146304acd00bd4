"""Do a model's logits on Universal Litmus Patterns look like those of a backdoored network?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def require_similar(pack: DetectorPack, features: np.ndarray[Any, Any], display: str) -> None:
    """Raise NotAssessableError if a model answers the patterns unlike any network of the pack's task.

    A pack's figures hold for networks of its own task alone; the same input shape and number of classes do not make
    it the same task.
    """
    import numpy as np

    from ..errors import NotAssessableError

    centre = pack.centre
    similarity = float(features @ centre / (np.linalg.norm(features) * np.linalg.norm(centre) + 1e-12))
    if similarity < pack.least_similarity:
        raise NotAssessableError(
            f"{display} answers the patterns of the detector pack {pack.name!r} unlike any network that the pack was "
            f"built on (similarity {similarity:.2f}, at least {pack.least_similarity:.2f} needed): it was trained for "
            "another task, or its preprocessing is not the declared one. Check input_range, mean, std and layout, or "
            "build a pack for its task."
        )


class LitmusCheck(BehaviouralCheck):
    """Feeds the detector pack's patterns to the model as one batch and classifies the logits linearly.

    Source: Universal Litmus Patterns, §3.3. No data, no gradients, no torch.
    """

    name = "litmus"
    cost = Cost.FORWARD

    def measure(self, subject: Subject, context: Context) -> Measurement:
        """The score is the linear classifier's output: the log-odds that the network is backdoored."""
        pack = context.pack_for(subject)
        features = litmus_features(subject.classifier.logits(pack.patterns))
        require_similar(pack, features, subject.display)
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
