"""Which task a network was trained for, told by its answers to a pack's images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LOWEST_SURE_SIMILARITY = 0.5
MARGIN = 1.5


def prototype_template(clean_features: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
    """A detector pack's ``prototype_template`` and ``least_similarity``.

    ``clean_features``: float ``(N, P·K)``, the ``litmus_features`` of N clean networks' logits on the P prototypes. The
    template is float32 ``(P·K,)``. The least similarity is half as much again below 1 as the lowest that a clean
    network has to the template of the others. So much room is there for training that was longer or shorter, but not
    for networks of another task, nor for clearly different architectures, whose scores would mean nothing. Raises
    ValueError if there are fewer than two networks, or if one is so unlike the others that nothing would be left to
    tell.
    """
    template, lowest = _template(clean_features)
    least = 1 - MARGIN * max(0.0, 1 - lowest)  # rounding can lift a cosine above 1
    if not least > 0:
        raise ValueError(
            f"A clean network answers the prototypes unlike the others (similarity {lowest:.2g}), so that they cannot "
            "tell the task; check the networks or fit the prototypes again."
        )
    return template, least


def pattern_template(clean_features: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
    """A detector pack's ``pattern_template`` and ``sure_similarity``.

    ``clean_features``: float ``(N, M·K)``, the same on the M patterns. Patterns are fitted to be answered differently,
    so answers unlike the template say nothing about the task, and the prototypes are asked. Answers like it do: the
    sure similarity is the lowest that a clean network has to the template of the others, but at least 0.5, so that
    networks that hardly agree do not let every other in. Raises ValueError if there are fewer than two networks.
    """
    template, lowest = _template(clean_features)
    return template, max(LOWEST_SURE_SIMILARITY, lowest)


def _template(clean_features: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
    """The networks' mean, and the lowest cosine similarity of one of them to the mean of the others.

    The mean is scaled so that its product with a network's features is the cosine of the angle between the two.
    """
    import numpy as np

    features = np.asarray(clean_features, np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError("A template needs the features of two or more clean networks.")
    total = features.sum(axis=0)
    lowest = min(float(one @ _scaled(total - one)) for one in features)
    return _scaled(total).astype(np.float32), lowest


def _scaled(direction: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # Features have a root mean square of 1, thus a length of the square root of their number.
    length = float((direction**2).sum()) ** 0.5
    scaled: np.ndarray[Any, Any] = direction / (length * len(direction) ** 0.5 + 1e-12)
    return scaled
