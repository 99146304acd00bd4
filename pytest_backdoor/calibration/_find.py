"""Which detector packs fit a model, and what to do where none does."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from ..errors import NotAssessableError
from ._pack import DetectorPack, load_pack


def find_packs(
    input_shape: tuple[int, int, int], classes: int, *, given: Path | None = None
) -> tuple[DetectorPack, ...]:
    """The pack ``given`` alone, else all shipped ones for models of this shape and number of classes; never none.

    Raises NotAssessableError if none fits and SettingsError if one cannot be read.
    """
    if given is not None:
        pack = load_pack(given)
        if pack.fits(input_shape, classes):
            return (pack,)
        raise NotAssessableError(
            f"The detector pack {given} is for images of shape {list(pack.input_shape)} and {pack.classes} classes, "
            f"not for {list(input_shape)} and {classes}.",
            remedy=how_to_build(input_shape),
        )
    packs = tuple(pack for path in shipped_packs() if (pack := load_pack(path)).fits(input_shape, classes))
    if not packs:
        raise NotAssessableError(
            f"No detector pack fits images of shape {list(input_shape)} with {classes} classes.",
            remedy=how_to_build(input_shape),
        )
    return packs


def how_to_build(input_shape: tuple[int, int, int]) -> str:
    """What to type for a detector pack of another task, as sentences."""
    return (
        f"Build a detector pack for the model's task from FOLDER, which holds train/CLASS/IMAGE.png and "
        f"test/CLASS/IMAGE.png of shape {list(input_shape)}: python -m reference_attacks zoo build --task FOLDER --out "
        "zoo, then python -m reference_attacks litmus fit --zoo zoo --out pack.npz; then scan again with "
        "--backdoor-pack pack.npz."
    )


@cache
def shipped_packs() -> tuple[Path, ...]:
    """The packs that come with the package, in alphabetical order."""
    folder = files("pytest_backdoor.calibration") / "packs"
    return tuple(sorted(Path(str(folder)).glob("*.npz")))
