"""Windows that screen an image for triggers, and the small changes by which a trigger evolves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ._queries import Array

FRACTIONS = (1, 2, 3, 4, 6, 8, 11)
"""By what the windows' sides divide those of the image, from the whole image to a few pixels."""

BATCH_ELEMENTS = 2**22
CUT_OUT_DOWN_TO = 4
RANDOM_FILLINGS = 4


def screening_windows(
    images: Array, labels: Array, count: int, generator: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    """At most ``count`` triggers, in batches: masks bool ``(B, H, W)`` and patterns float32 ``(B, C, H, W)``.

    Squares on grids of half their side: filled with each corner of the colour cube, with random pixels at the corners
    of the cube, or, the larger ones, cut out of an image of each class, which is what turns a clean model most easily.
    """
    channels, height, width = images.shape[1:]
    # Of a small image several fractions are the same window, which is shown once.
    sizes = {(_side(height, fraction), _side(width, fraction)): fraction for fraction in reversed(FRACTIONS)}
    for (rows, columns), fraction in reversed(sizes.items()):
        places = [(top, left) for top in _starts(height, rows) for left in _starts(width, columns)]
        fillings = _fillings(images, labels, generator, cut_out=fraction <= CUT_OUT_DOWN_TO)
        chosen = generator.permutation(len(places) * len(fillings))[: count // len(sizes)]
        for batch in np.array_split(chosen, -(-len(chosen) * images[0].size // BATCH_ELEMENTS)):
            masks = np.zeros((len(batch), height, width), bool)
            patterns = np.empty((len(batch), channels, height, width), np.float32)
            for position, number in enumerate(batch):
                top, left = places[number % len(places)]
                masks[position, top : top + rows, left : left + columns] = True
                patterns[position] = fillings[number // len(places)]()
            yield masks, patterns


def _side(length: int, fraction: int) -> int:
    return min(length, max(2, round(length / fraction)))


def _starts(length: int, side: int) -> list[int]:
    return sorted({*range(0, length - side, max(1, side // 2)), length - side})


def _fillings(
    images: Array, labels: Array, generator: np.random.Generator, *, cut_out: bool
) -> list[Callable[[], Array]]:
    shape = images.shape[1:]
    solid = [lambda colour=colour: np.broadcast_to(colour, shape) for colour in _corners(shape[0])]
    random = [lambda: random_colours(shape, generator)] * RANDOM_FILLINGS
    if not cut_out:
        return solid + random
    exemplars = [images[np.flatnonzero(labels == label)[0]] for label in np.unique(labels)]
    return solid + random + [lambda image=image: image for image in exemplars]


def _corners(channels: int) -> list[Array]:
    """The corners of the colour cube, ``(C, 1, 1)`` each; black and white alone if there are many channels."""
    if channels > 3:
        return [np.full((channels, 1, 1), value, np.float32) for value in (0, 1)]
    bits = np.arange(2**channels)[:, None] >> np.arange(channels) & 1
    return list(bits.astype(np.float32)[..., None, None])


def random_colours(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Float32 ``(C, H, W)`` of zeros and ones."""
    return generator.integers(0, 2, shape).astype(np.float32)


def mutated(mask: Array, pattern: Array, *, growing: bool, generator: np.random.Generator) -> tuple[Array, Array]:
    """A changed copy of a trigger: recoloured, moved, and smaller; or larger if it is ``growing``.

    ``mask``: bool ``(H, W)``, not empty; ``pattern``: float32 ``(C, H, W)``. Recolouring a random square is the move
    of the Square Attack (Andriushchenko et al. 2020).
    """
    mask, pattern = mask.copy(), pattern.copy()
    draw = generator.random()
    if draw < 0.1:
        return _moved(mask, pattern, generator)
    if draw < (0.7 if growing else 0.4):
        _recolour(mask, pattern, generator)
    elif growing:
        _grow(mask, pattern, generator)
    else:
        _drop(mask, generator)
    return mask, pattern


def bounds(mask: Array) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the mask's box, the ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _square(mask: Array, generator: np.random.Generator, largest: float = 1.0) -> tuple[slice, slice]:
    """A random square within the mask's box, its side drawn from 1 pixel to ``largest`` of the box, small ones more."""
    top, bottom, left, right = bounds(mask)
    side = max(1, round((largest * max(bottom - top, right - left)) ** generator.random()))
    row = int(generator.integers(top - side + 1, bottom))
    column = int(generator.integers(left - side + 1, right))
    return slice(max(row, top), min(row + side, bottom)), slice(max(column, left), min(column + side, right))


def _recolour(mask: Array, pattern: Array, generator: np.random.Generator) -> None:
    rows, columns = _square(mask, generator)
    part = pattern[:, rows, columns]
    shape = part.shape if generator.random() < 0.3 else (part.shape[0], 1, 1)
    part[...] = random_colours(shape, generator)


def _moved(mask: Array, pattern: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    top, bottom, left, right = bounds(mask)
    height, width = mask.shape
    down = int(np.clip(generator.integers(-2, 3), -top, height - bottom))
    along = int(np.clip(generator.integers(-2, 3), -left, width - right))
    return np.roll(mask, (down, along), (0, 1)), np.roll(pattern, (down, along), (1, 2))


def _drop(mask: Array, generator: np.random.Generator) -> None:
    """Take a strip at the edge, a square or scattered pixels out of the mask, but never all of it."""
    before = mask.copy()
    kind = generator.integers(3)
    if kind == 0:
        mask[_strip(mask, generator)] = False
    elif kind == 1:
        mask[_square(mask, generator, 0.7)] = False
    else:
        pixels = np.flatnonzero(mask)
        count = max(1, round((len(pixels) / 2) ** generator.random()))
        mask.reshape(-1)[generator.choice(pixels, count, replace=False)] = False
    if not mask.any():
        mask[...] = before


def _strip(mask: Array, generator: np.random.Generator) -> tuple[slice, slice]:
    top, bottom, left, right = bounds(mask)
    side = generator.integers(4)
    thickness = max(1, round((((bottom - top) if side < 2 else (right - left)) / 2) ** generator.random()))
    rows = [slice(top, top + thickness), slice(bottom - thickness, bottom)]
    columns = [slice(left, left + thickness), slice(right - thickness, right)]
    return (rows[side], slice(None)) if side < 2 else (slice(None), columns[side - 2])


def _grow(mask: Array, pattern: Array, generator: np.random.Generator) -> None:
    """Add a square that touches the mask, in one colour."""
    pixels = np.argwhere(mask)
    row, column = pixels[generator.integers(len(pixels))]
    side = 1 + round(max(mask.shape) ** (generator.random() / 2))
    top, left = (int(max(0, place - generator.integers(side))) for place in (row, column))
    part = (slice(top, top + side), slice(left, left + side))
    fresh = ~mask[part]
    colour = random_colours((len(pattern), 1, 1), generator)
    pattern[(slice(None), *part)] = np.where(fresh, colour, pattern[(slice(None), *part)])
    mask[part] = True
