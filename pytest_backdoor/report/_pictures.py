"""The pictures of a finding, in the order in which they tell what was found."""

from __future__ import annotations

from dataclasses import dataclass

from ..findings import Finding
from ._evidence import Evidence

MOST_BASE64 = 400_000
MOST_OTHERS = 4


@dataclass(frozen=True, kw_only=True)
class Picture:
    """``png``: base64. ``name``: of its kind. ``description``: for who does not see it. ``wide``: a row of images."""

    png: str
    name: str
    caption: str
    description: str
    wide: bool = False


def pictures_of(finding: Finding) -> tuple[Picture, ...]:
    """Clean image, mask, trigger, image with the trigger, then rows of images; those that the evidence holds."""
    evidence = Evidence(finding.evidence)
    before, after = evidence.text("example_before"), evidence.text("example_after")
    told = {
        "clean_png": (
            "clean image" + (f": class {before}" if before else ""),
            "An image without the trigger" + (f", which the model takes for class {before}" if before else ""),
        ),
        "mask_png": (
            "mask: where the trigger is",
            f"The mask, white where the trigger covers the image{_extent(evidence)}",
        ),
        "trigger_png": ("trigger", f"The trigger alone, on black{_place(evidence)}"),
        "patch_png": ("patch, enlarged", f"The patch alone{_place(evidence)}"),
        **dict.fromkeys(
            ("triggered_png", "patched_png"),
            (
                "with trigger" + (f": class {after}" if after else ""),
                "The same image with the trigger" + (f", which the model takes for class {after}" if after else ""),
            ),
        ),
        "before_and_after_png": (
            f"other images, above without and below with the trigger{_change(evidence)}",
            f"A row of images without the trigger above the same images with it{_change(evidence)}",
        ),
    }
    own = [name for name in evidence.names() if name.endswith("_png") and name not in told][:MOST_OTHERS]
    told |= {
        name: (name.removesuffix("_png").replace("_", " "), f"A picture of the check {finding.check}") for name in own
    }
    found = [(name, evidence.picture(name)) for name in told]
    return tuple(
        Picture(
            png=png,
            name=name.removesuffix("_png").replace("_", " "),
            caption=told[name][0],
            description=f"{told[name][1]}.",
            wide=name == "before_and_after_png",
        )
        for name, png in found
        if png is not None and len(png) <= MOST_BASE64
    )


def _extent(evidence: Evidence) -> str:
    size, area = evidence.number("mask_size"), evidence.number("image_area")
    return "" if size is None or area is None else f", {size:.1f} of {area:.0f} pixels"


def _place(evidence: Evidence) -> str:
    place = evidence.text("where") or evidence.text("place")
    return "" if place is None else f": {place}"


def _change(evidence: Evidence) -> str:
    before, after = (
        ", ".join(str(int(number)) for number in evidence.numbers(name) if number is not None)
        for name in ("predicted_before", "predicted_after")
    )
    return f"; classes {before} become {after}" if before and after else ""


def drawing_of(finding: Finding) -> list[str]:
    """The trigger in characters, a line that says where it lies first; empty if it is too large to be drawn."""
    return Evidence(finding.evidence).texts("trigger_drawing")[:100]
