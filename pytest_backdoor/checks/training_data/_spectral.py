"""Spectral signatures: do some images of a class lie apart from the rest along one direction of feature space?"""

from __future__ import annotations

from typing import Any

import numpy as np

VECTORS = 4
ROUNDS = 30


def projections(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Float32 ``(M,)``: where each image lies along its class's top direction, from the class's mean.

    ``features``: float32 ``(M, D)``, ``labels``: int64 ``(M,)``. In units of the root mean square of the class; its
    sign has no meaning but is one for all images of a class. The square is the outlier score of Tran, Li and Madry,
    "Spectral Signatures in Backdoor Attacks" (2018), Algorithm 1, up to a factor for each class, without which
    classes could not be compared. The top right singular vector of the centred features is found by 30 rounds of
    subspace iteration, which is enough wherever one direction stands out.
    """
    found = np.zeros(len(labels), np.float32)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows = features[own]
        rows = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        along = rows @ _top_direction(rows)
        scale = float(np.sqrt(np.mean(along.astype(np.float64) ** 2)))
        if scale > 0:
            found[own] = along / np.float32(scale)
    return found


def _top_direction(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The top right singular vector of ``rows``, float32 ``(n, D)``; a unit vector, or zero if they are zero."""
    count = min(VECTORS, *rows.shape)
    basis = np.random.default_rng(0).standard_normal((rows.shape[1], count), dtype=np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
    image = rows @ basis
    values, vectors = np.linalg.eigh((image.T @ image).astype(np.float64))
    return np.asarray(basis @ vectors[:, -1].astype(np.float32) if values[-1] > 0 else basis[:, 0] * 0, np.float32)
