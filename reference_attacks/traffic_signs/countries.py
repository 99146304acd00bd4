"""Two countries made of GTSRB's 43 kinds of traffic signs, for the transfer of classifiers (BadNets 2019, §V-C)."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch

from ..data import ImageSet, load_gtsrb
from .annotations.gtsdb import GROUPS, SIGN_NAMES, group_of


@dataclass(frozen=True, kw_only=True)
class Country:
    """Cut-out signs of 32x32 pixels. ``train`` and ``test`` have labels in [0, len(classes))."""

    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet


def load_countries(root: str | os.PathLike[str] | None = None) -> tuple[Country, Country]:
    """The first country has the 22 kinds of signs with even numbers, the second the 21 with odd ones.

    So no kind is in both, while both have every shape and colour and none is hard for want of examples. Raises
    DataNotFoundError where GTSRB is absent and cannot be fetched.
    """
    train, test = load_gtsrb(root, train=True), load_gtsrb(root, train=False)
    first, second = (
        Country(classes=SIGN_NAMES[parity::2], train=_every_other(train, parity), test=_every_other(test, parity))
        for parity in (0, 1)
    )
    return first, second


def grouped(country: Country) -> Country:
    """The same signs by the four groups that GTSDB sorts them into.

    As in the paper, whose second country has five categories (Table VI). Between single kinds the sticker of 6 pixels
    makes even an honest network err, because it covers what tells one from another.
    """
    groups = torch.tensor([GROUPS.index(group_of(SIGN_NAMES.index(name))) for name in country.classes])
    train, test = (replace(part, labels=groups[part.labels]) for part in (country.train, country.test))
    return Country(classes=GROUPS, train=train, test=test)


def _every_other(images: ImageSet, parity: int) -> ImageSet:
    chosen = images.take((images.labels % 2 == parity).nonzero()[:, 0])
    return replace(chosen, labels=chosen.labels // 2)
