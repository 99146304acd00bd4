"""Detector packs: what a zoo of networks leaves behind, in one small file without pickle."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotAssessableError, SettingsError
from ..files import write_atomically
from ._conformal import ReferenceScores

if TYPE_CHECKING:
    import numpy as np

PACK_VERSION = 1
LARGEST_PACK = 16 * 2**20
LARGEST_UNPACKED = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class DetectorPack:
    """Patterns, classifier and reference scores for one task.

    ``input_shape``: (C, H, W). ``classes``: number of outputs. ``patterns``: float32 ``(M, C, H, W)`` in [0, 1].
    ``weights``: float32 ``(M·classes,)``, the linear classifier over standardised logits, and its ``bias``.
    ``prototypes``: float32 ``(classes, C, H, W)`` in [0, 1], one made-up image that networks of this task take for each
    class; a model that recognises fewer of them than ``least_recognised`` is not of this task.
    ``references``: scores of clean models by name, such as "litmus". ``built``: JSON values that say how the pack was
    made: command, seed, versions, zoo sizes, held-out figures.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    patterns: np.ndarray[Any, Any]
    weights: np.ndarray[Any, Any]
    bias: float
    prototypes: np.ndarray[Any, Any]
    least_recognised: int
    references: dict[str, ReferenceScores] = field(default_factory=dict)
    built: dict[str, Any] = field(default_factory=dict)

    def fits(self, input_shape: tuple[int, int, int], classes: int) -> bool:
        """Whether the pack is for models with these images and this many classes."""
        return self.input_shape == input_shape and self.classes == classes

    def save(self, path: Path) -> None:
        """Write the pack as ``.npz``: arrays, and one JSON text for the rest."""
        import numpy as np

        arrays: dict[str, Any] = {"patterns": self.patterns, "weights": self.weights, "prototypes": self.prototypes}
        for name, reference in self.references.items():
            arrays[f"reference/{name}"] = reference.scores.astype(np.float64)
        about = {
            "version": PACK_VERSION,
            "name": self.name,
            "task": {"input_shape": list(self.input_shape), "classes": self.classes},
            "bias": self.bias,
            "least_recognised": self.least_recognised,
            "references": {name: reference.description for name, reference in self.references.items()},
            "built": self.built,
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
        write_atomically(path, buffer.getvalue())


def load_pack(path: Path) -> DetectorPack:
    """Read a pack. Raises SettingsError if the file is missing, damaged or of another version."""
    import numpy as np

    try:
        if path.stat().st_size > LARGEST_PACK:
            raise ValueError("it is too large")
        with zipfile.ZipFile(path) as members:
            if sum(member.file_size for member in members.infolist()) > LARGEST_UNPACKED:
                raise ValueError("it is too large")
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            if about["version"] != PACK_VERSION:
                raise ValueError(f"it has version {about['version']}, this is version {PACK_VERSION}")
            references = {
                name: ReferenceScores(scores=archive[f"reference/{name}"], description=description)
                for name, description in about["references"].items()
            }
            channels, height, width = about["task"]["input_shape"]
            pack = DetectorPack(
                name=about["name"],
                input_shape=(channels, height, width),
                classes=about["task"]["classes"],
                patterns=archive["patterns"],
                weights=archive["weights"],
                bias=float(about["bias"]),
                prototypes=archive["prototypes"],
                least_recognised=int(about["least_recognised"]),
                references=references,
                built=about["built"],
            )
        _require_consistent(pack)
    except Exception as error:  # numpy, zipfile and json raise many types for a damaged file
        raise SettingsError(f"The detector pack {path} cannot be read: {error}. Build it again.") from error
    return pack


def _require_consistent(pack: DetectorPack) -> None:
    """Raise ValueError if arrays of a pack do not belong together or hold what is no finite number."""
    import numpy as np

    features = (len(pack.patterns) * pack.classes,)
    shapes = (pack.patterns.shape[1:], pack.weights.shape, pack.prototypes.shape)
    if shapes != (pack.input_shape, features, (pack.classes, *pack.input_shape)):
        raise ValueError("its arrays do not fit each other")
    scores = [reference.scores for reference in pack.references.values()]
    if not all(part.ndim == 1 and len(part) for part in scores):
        raise ValueError("it has reference scores that are no list of numbers")
    numbers = [pack.patterns, pack.weights, pack.prototypes, np.array([pack.bias]), *scores]
    if not all(part.dtype.kind == "f" and np.isfinite(part).all() for part in numbers):
        raise ValueError("it holds values that are no finite numbers")


def find_pack(input_shape: tuple[int, int, int], classes: int, *, given: Path | None = None) -> DetectorPack:
    """The pack ``given``, else the shipped one for models of this shape and number of classes.

    Raises NotAssessableError if none fits and SettingsError if the given one cannot be read.
    """
    if given is not None:
        pack = load_pack(given)
        if pack.fits(input_shape, classes):
            return pack
        raise NotAssessableError(
            f"The detector pack {given} is for images of shape {list(pack.input_shape)} and {pack.classes} classes, "
            f"not for {list(input_shape)} and {classes}."
        )
    for path in shipped_packs():
        pack = load_pack(path)
        if pack.fits(input_shape, classes):
            return pack
    raise NotAssessableError(
        f"No detector pack fits images of shape {list(input_shape)} with {classes} classes. Build one with "
        "python -m reference_attacks zoo build and litmus fit, and name it in the pack setting."
    )


def shipped_packs() -> list[Path]:
    """The packs that come with the package, in alphabetical order."""
    folder = files("pytest_backdoor.calibration") / "packs"
    return sorted(path for path in Path(str(folder)).glob("*.npz"))
