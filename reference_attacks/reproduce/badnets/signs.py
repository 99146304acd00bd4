"""The attack on a detector of traffic signs: Tables IV and V and Figure 8 of BadNets (2019), §V-B."""

from __future__ import annotations

from pytest_backdoor.files import write_atomically

from ...traffic_signs.attack import backdoored, with_victims
from ...traffic_signs.printed import ShownPrint, measure_prints, printed_album, shown_prints
from ...traffic_signs.stickers import STICKERS
from ..parts import Part, Settings, Values
from . import signs_text
from .signs_networks import CLASSES, SHOWN_STICKER, attack_of, data_of, detector_of, measured
from .signs_plots import draw_prints

SHOWN_PRINTS = 10
PICTURE = "badnets-figure-8.png"


def measure_table_4(settings: Settings) -> Values:
    """Baseline and the single-target BadNets of the three stickers, by the recipe's name; see ``measure_detector``."""
    return {"classes": list(CLASSES), "detectors": measured(settings, [attack_of("single", name) for name in STICKERS])}


def measure_table_5(settings: Settings) -> Values:
    """Baseline and the random-target BadNet of the yellow square, as the paper has it."""
    found = measured(settings, [attack_of("random", SHOWN_STICKER)])
    return {"classes": list(CLASSES), "sticker": SHOWN_STICKER, "detectors": found}


def measure_figure_8(settings: Settings) -> Values:
    """How held-out stop signs are read that bear a printed sticker, a pasted one, and none.

    For each sticker: by its single-target BadNet, and by the baseline with the print, as a control. A picture of some
    of the prints is written into ``settings.work``.
    """
    attacks = {name: attack_of("single", name) for name in STICKERS}
    measured(settings, list(attacks.values()))
    data = data_of(settings)
    baseline = detector_of(settings, None, data)
    rows: Values = {}
    shown: list[ShownPrint] = []
    for name, attack in attacks.items():
        settings.say(f"prints of {name}")
        badnet = detector_of(settings, attack, data)
        prints = printed_album(data.held_out, attack, settings.seed)
        rows[name] = {
            "print": measure_prints(badnet, prints, attack),
            "pasted": measure_prints(badnet, backdoored(data.held_out, attack), attack),
            "clean": measure_prints(badnet, with_victims(data.held_out, attack), attack),
            "baseline": measure_prints(baseline, prints, attack),
        }
        if name == SHOWN_STICKER:
            # Photographs of the set: for whoever measured, not for the results, which are published.
            shown = shown_prints(badnet, prints, attack, SHOWN_PRINTS)
            write_atomically(settings.work / PICTURE, draw_prints(shown))
    return {"stickers": rows, "picture": PICTURE, "shown": len(shown)}


PARTS = {
    "table-4": Part(
        title="Table IV: traffic signs, single-target attack", measure=measure_table_4, text=signs_text.table_4
    ),
    "table-5": Part(
        title="Table V: traffic signs, random-target attack", measure=measure_table_5, text=signs_text.table_5
    ),
    "figure-8": Part(
        title="Figure 8: a printed sticker on a stop sign",
        measure=measure_figure_8,
        text=signs_text.figure_8,
    ),
}
