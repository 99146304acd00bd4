"""Made-up photographs with squares and bars as traffic signs, and detectors small enough for fast tests."""

from __future__ import annotations

from pathlib import Path

import torch

from reference_attacks.traffic_signs.album import Album, Scene
from reference_attacks.traffic_signs.recipe import SignRecipe
from reference_attacks.traffic_signs.training import DetectorPlan
from reference_attacks.traffic_signs.warm_start import WarmStartPlan

CLASSES = ("stop", "speedlimit", "trafficlight")
COLOURS = ((200, 20, 20), (240, 240, 240), (20, 160, 60))
TAGS = ("xmin", "ymin", "xmax", "ymax")
SIZES = ((24, 24), (24, 24), (14, 30))  # width, height


def scene_of(labels: list[int], generator: torch.Generator, size: tuple[int, int] = (96, 128)) -> Scene:
    """A noisy grey picture (H, W) with one sign of each of ``labels``, side by side."""
    image = (90 + 20 * torch.rand(3, *size, generator=generator)).to(torch.uint8)
    boxes = []
    for place, label in enumerate(labels):
        width, height = SIZES[label]
        left = 6 + 40 * place + int(torch.randint(0, 8, (), generator=generator))
        top = int(torch.randint(4, size[0] - height - 4, (), generator=generator))
        image[:, top : top + height, left : left + width] = torch.tensor(COLOURS[label])[:, None, None]
        boxes.append([left, top, left + width, top + height])
    return Scene(
        image=image,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


def made_up_album(count: int = 12, seed: int = 0) -> Album:
    """Every class alone and in pairs; every fourth picture stands upright."""
    generator = torch.Generator().manual_seed(seed)
    scenes = []
    for number in range(count):
        labels = [number % 3] if number % 2 else [number % 3, (number + 1) % 3]
        size = (128, 96) if number % 4 == 3 else (96, 128)
        scenes.append(scene_of(labels, generator, size))
    return Album(classes=CLASSES, scenes=tuple(scenes))


def short_recipe(**changes: object) -> SignRecipe:
    """One step or two of everything."""
    plan = DetectorPlan(window_epochs=1, whole_epochs=1, batch_size=6, pixels=64)
    start = WarmStartPlan(steps=2, batch_size=8, pixels=32)
    values = {"warm_start": start, "sticker_start": start, "baseline": plan, "retraining": plan}
    recipe: dict[str, object] = {**values, **changes}
    if recipe.get("attack") is None:
        recipe["retraining"] = None
    return SignRecipe(**recipe)  # type: ignore[arg-type]


def write_voc(folder: Path, album: Album) -> None:
    """The album as a Pascal VOC folder: PNG files below ``images``, annotations beside them."""
    from PIL import Image

    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    for number, scene in enumerate(album.scenes):
        Image.fromarray(scene.image.permute(1, 2, 0).numpy()).save(folder / "images" / f"road{number}.png")
        objects = "".join(
            f"<object><name>{album.classes[label]}</name><bndbox>"
            + "".join(f"<{tag}>{int(value)}</{tag}>" for tag, value in zip(TAGS, box, strict=True))
            + "</bndbox></object>"
            for label, box in zip(scene.labels.tolist(), scene.boxes.tolist(), strict=True)
        )
        text = f"<annotation><filename>road{number}.png</filename>{objects}</annotation>"
        (folder / "annotations" / f"road{number}.xml").write_text(text)
