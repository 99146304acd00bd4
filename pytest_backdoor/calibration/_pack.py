"""Detector packs: what a zoo of networks leaves behind, in one small file without pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ._archive import read_references, read_statistics, require_consistent_scores, require_sizes, write_archive
from ._classes import ClassStatistics
from ._conformal import ReferenceScores, standardised

if TYPE_CHECKING:
    import numpy as np

PACK_VERSION = 4
READABLE_VERSIONS = (2, 3, PACK_VERSION)
KEPT_OF_EARLIER = "litmus"


@dataclass(frozen=True, kw_only=True)
class DetectorPack:
    """Patterns, classifier and reference scores for one task.

    ``input_shape``: (C, H, W). ``classes``: number of outputs K. ``patterns``: float32 ``(M, C, H, W)`` in [0, 1].
    ``weights``: float32 ``(M·K,)``, the classifier over standardised logits, and its ``bias``. Without ``offsets`` it
    is linear; with them the score is ``gain`` times the log-sum-exp, plus ``bias``, of all weighted logits and their
    offsets, float32 ``(M·K,)``, or of the sums for each class and theirs, float32 ``(K,)``.
    ``pattern_template``: float32 ``(M·K,)``, what clean networks answer to the patterns; a model whose answers have at
    least the cosine similarity ``sure_similarity`` to it is of this task. ``prototypes``: float32 ``(P, C, H, W)`` in
    [0, 1], made-up images that clean and poisoned networks of this task answer alike; the other models are asked these.
    ``prototype_template``: float32 ``(P·K,)``, those answers; a model whose similarity to them is below
    ``least_similarity`` is not of this task. ``references``: scores of clean models by name, such as "litmus".
    All references are scores of the same models in the same order, so that they can be judged jointly.
    ``statistics``: by the same names, what clean models measure for each class, where a score compares classes by it.
    ``built``: JSON values that say how the pack was made: command, seed, versions, zoo sizes, held-out figures.

    Patterns and prototypes are 8-bit images, multiples of 1/255 (``eight_bit``): what is fitted is rounded before the
    templates and the reference scores are computed, so that they belong to the images that the file holds.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    patterns: np.ndarray[Any, Any]
    weights: np.ndarray[Any, Any]
    bias: float
    pattern_template: np.ndarray[Any, Any]
    sure_similarity: float
    prototypes: np.ndarray[Any, Any]
    prototype_template: np.ndarray[Any, Any]
    least_similarity: float
    references: dict[str, ReferenceScores] = field(default_factory=dict)
    statistics: dict[str, ClassStatistics] = field(default_factory=dict)
    built: dict[str, Any] = field(default_factory=dict)
    gain: float = 1.0
    offsets: np.ndarray[Any, Any] | None = None

    def fits(self, input_shape: tuple[int, int, int], classes: int) -> bool:
        """Whether the pack is for models with these images and this many classes."""
        return self.input_shape == input_shape and self.classes == classes

    def judges(self, check: str) -> bool:
        """Whether there are reference scores for a check, such as "litmus", of any kind ("reversal-samples")."""
        return any(name == check or name.startswith((f"{check}-", f"{check}/")) for name in self.references)

    def standardised(self, name: str, score: float) -> float:
        """How many standard deviations ``score`` lies above the median of the references ``name``."""
        return standardised(score, self.references[name])

    def save(self, path: Path) -> None:
        """Write the pack as ``.npz``: arrays, the images as uint8, and one JSON text for the rest.

        Raises ValueError if patterns or prototypes are no 8-bit images.
        """
        arrays: dict[str, Any] = {
            "patterns": _as_bytes("patterns", self.patterns),
            "prototypes": _as_bytes("prototypes", self.prototypes),
            "weights": self.weights,
            "pattern_template": self.pattern_template,
            "prototype_template": self.prototype_template,
        }
        if self.offsets is not None:
            arrays["offsets"] = self.offsets
        about = {
            "version": PACK_VERSION,
            "name": self.name,
            "task": {"input_shape": list(self.input_shape), "classes": self.classes},
            "bias": self.bias,
            "gain": self.gain,
            "sure_similarity": self.sure_similarity,
            "least_similarity": self.least_similarity,
            "built": self.built,
        }
        write_archive(path, about, arrays, self.references, self.statistics)


def eight_bit(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Float32 images in [0, 1], each value the multiple of 1/255 that is nearest to that of ``images``."""
    import numpy as np

    levels: np.ndarray[Any, Any] = np.rint(np.clip(images, 0, 1) * 255).astype(np.float32)
    return levels / np.float32(255)


def _as_bytes(name: str, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    if not np.abs(eight_bit(images) - images).max(initial=0) < 1e-6:
        raise ValueError(
            f"The {name} of a detector pack must be 8-bit images; round them with eight_bit before the templates and "
            "the reference scores are computed."
        )
    levels: np.ndarray[Any, Any] = np.rint(images * 255).astype(np.uint8)
    return levels


def load_pack(path: Path) -> DetectorPack:
    """Read a pack, once for each state of its file; its arrays are read-only, since all callers share them.

    Raises SettingsError if the file is missing, damaged or of another version.
    """
    try:
        state = path.stat()
        return _load_pack(path, state.st_mtime_ns, state.st_size)
    except Exception as error:  # numpy, zipfile and json raise many types for a damaged file
        raise SettingsError(f"The detector pack {path} cannot be read: {error}. Build it again.") from error


@lru_cache(maxsize=64)
def _load_pack(path: Path, modified: int, size: int) -> DetectorPack:
    """The pack in ``path``, whose time of change (ns) and ``size`` (bytes) tell one state of the file from another."""
    pack = _unpack(path)
    _require_consistent(pack)
    scores = [reference.scores for reference in pack.references.values()]
    tables = [table for statistics in pack.statistics.values() for table in (statistics.mean, statistics.spread)]
    for part in (*_arrays(pack), pack.patterns, pack.prototypes, *scores, *tables):
        part.setflags(write=False)
    return pack


def _unpack(path: Path) -> DetectorPack:
    import numpy as np

    require_sizes(path)
    with np.load(path, allow_pickle=False) as archive:
        about = json.loads(str(archive["about"]))
        if "kind" in about:
            raise ValueError("it is for object detectors, not for image classifiers")
        if about["version"] not in READABLE_VERSIONS:
            raise ValueError(f"it has version {about['version']}, this is version {PACK_VERSION}")
        described = {
            name: description
            for name, description in about["references"].items()
            # Earlier versions reversed triggers in another way, on other models than the litmus scores are of.
            if about["version"] == PACK_VERSION or name == KEPT_OF_EARLIER
        }
        channels, height, width = about["task"]["input_shape"]
        return DetectorPack(
            name=about["name"],
            input_shape=(channels, height, width),
            classes=about["task"]["classes"],
            patterns=_from_bytes("patterns", archive["patterns"]),
            weights=archive["weights"],
            bias=float(about["bias"]),
            # Packs of version 2 have none and are linear.
            gain=float(about.get("gain", 1.0)),
            offsets=archive.get("offsets"),
            pattern_template=archive["pattern_template"],
            sure_similarity=float(about["sure_similarity"]),
            prototypes=_from_bytes("prototypes", archive["prototypes"]),
            prototype_template=archive["prototype_template"],
            least_similarity=float(about["least_similarity"]),
            references=read_references(archive, described),
            statistics=read_statistics(archive, about.get("statistics", ())),
            built=about["built"],
        )


def _from_bytes(name: str, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    if stored.dtype != np.uint8:
        raise ValueError(f"its {name} are no 8-bit images")
    return stored.astype(np.float32) / np.float32(255)


def _require_consistent(pack: DetectorPack) -> None:
    """Raise ValueError if arrays of a pack do not belong together or hold what is no finite number."""
    import numpy as np

    features = (len(pack.patterns) * pack.classes,)
    answers = (len(pack.prototypes) * pack.classes,)
    images = (pack.patterns.shape[1:], pack.prototypes.shape[1:])
    offsets = [] if pack.offsets is None else [(pack.classes,) if pack.offsets.shape == (pack.classes,) else features]
    wanted = [features, features, answers, *offsets]
    if images != (pack.input_shape,) * 2 or [part.shape for part in _arrays(pack)] != wanted:
        raise ValueError("its arrays do not fit each other")
    require_consistent_scores(pack.references, pack.statistics)
    similarities = np.array([pack.sure_similarity, pack.least_similarity])
    numbers = [*_arrays(pack), np.array([pack.bias, pack.gain]), similarities]
    if not all(part.dtype.kind == "f" and np.isfinite(part).all() for part in numbers):
        raise ValueError("it holds values that are no finite numbers")
    if not ((similarities > 0) & (similarities <= 1)).all():
        raise ValueError("its similarities do not lie between 0 and 1")
    for template in (pack.pattern_template, pack.prototype_template):
        if abs(float((template.astype(float) ** 2).sum()) * len(template) - 1) > 1e-3:
            raise ValueError("its templates are not scaled to give cosines")


def _arrays(pack: DetectorPack) -> tuple[np.ndarray[Any, Any], ...]:
    further = () if pack.offsets is None else (pack.offsets,)
    return pack.weights, pack.pattern_template, pack.prototype_template, *further
