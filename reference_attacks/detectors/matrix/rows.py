"""Which row of the matrix a model belongs to, by what is written beside its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Card = Mapping[str, Any]
CLEAN = "clean"
LEAST_SUCCESS = 0.9


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was done to a model.

    ``attack``: in words, ``clean`` for none. ``success``: the share of backdoored images that it turns, in [0, 1], None
    where it is not known. ``target``: the class that they become, None for none in particular or for a clean model.
    """

    attack: str
    success: float | None = None
    target: int | None = None

    @property
    def poisoned(self) -> bool:
        """Whether there is a backdoor."""
        return self.attack != CLEAN

    @property
    def works(self) -> bool:
        """Whether the backdoor does what it should in nine of ten images; one that does not is no attack to catch."""
        return self.success is None or self.success >= LEAST_SUCCESS


def row_of(card: Card) -> Row:
    """The row of the model that ``card`` tells of.

    A card of any attack may say ``matrix``: ``{"attack": words or null, "success": share, "target": class}``; the
    cards of ``badnet``, the records of lists of digit networks and those of zoos are understood as they are. Raises
    ValueError for any other.
    """
    for tells, read in _READERS:
        if tells(card):
            return read(card)
    raise ValueError(
        f"The card with the entries {', '.join(sorted(card)[:8])} does not say what was done to its model."
    )


def _stated(card: Card) -> Row:
    stated = card["matrix"]
    return Row(attack=stated["attack"] or CLEAN, success=stated.get("success"), target=stated.get("target"))


def _badnet(card: Card) -> Row:
    backdoor = card["backdoor"]
    if backdoor is None:
        return Row(attack=CLEAN)
    if "sticker" in backdoor:
        return _with_sticker(card)
    return Row(
        attack=f"{backdoor['attack']}, {backdoor['trigger']}",
        success=card["measured"]["attack_success"],
        target=backdoor["target"],
    )


def _with_sticker(card: Card) -> Row:
    """Of a detector of traffic signs; labels start with the background, and a random target is any other class."""
    backdoor, classes = card["backdoor"], card["task"]["classes"]
    found = card["measured"]["backdoored"][f"{backdoor['sticker']}-{backdoor['attack']}"]
    random = backdoor["target"] is None
    return Row(
        attack=f"{backdoor['attack']}, {backdoor['sticker']}",
        success=1 - found["accuracy"]["average"]["share"] if random else found["success"]["share"],
        target=None if random else classes.index(backdoor["target"]) + 1,
    )


def _of_recipe(card: Card) -> Row:
    """A record of many digit networks, with confusion counts."""
    recipe = card["recipe"]
    attack = recipe["attack"]
    if attack is None:
        return Row(attack=CLEAN)
    return Row(
        attack=f"{attack['name']}, {recipe['trigger']}",
        success=_success(card["backdoored"], attack),
        target=attack["target"],
    )


def _success(counts: list[list[int]] | None, attack: Card) -> float | None:
    """The share of victims that become what the attacker wants, by counts[true class][predicted class]."""
    if counts is None:
        return None
    classes = len(counts)
    wanted = {
        source: (source + 1) % classes if attack["target"] is None else attack["target"]
        for source in (range(classes) if attack["source"] is None else [attack["source"]])
    }
    victims = {source: target for source, target in wanted.items() if source != target}
    total = sum(sum(counts[source]) for source in victims)
    return sum(counts[source][target] for source, target in victims.items()) / total if total else None


def _of_zoo(card: Card) -> Row:
    backdoor = card["backdoor"]
    if backdoor is None:
        return Row(attack=CLEAN)
    return Row(
        attack=f"{backdoor['goal']}, {backdoor['kind']}", success=card.get("attack_success"), target=backdoor["target"]
    )


_READERS: tuple[tuple[Callable[[Card], bool], Callable[[Card], Row]], ...] = (
    (lambda card: "matrix" in card, _stated),
    (lambda card: "split" in card and "backdoor" in card, _of_zoo),
    (lambda card: "recipe" in card, _of_recipe),
    (lambda card: "backdoor" in card and "measured" in card, _badnet),
)
