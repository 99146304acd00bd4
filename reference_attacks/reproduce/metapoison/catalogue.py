"""Which figures of MetaPoison can be reproduced, and the module that holds each."""

from __future__ import annotations

from ..parts import Paper

INTRODUCTION = """\
Figures of Huang, Geiping, Fowl, Taylor and Goldstein: *MetaPoison: Practical General-purpose Clean-label Data
Poisoning* (2020), in the version titled *MetaPoison: Learning to Craft Adversarial Poisoning Examples via
Meta-Learning*, measured again, the paper's numbers beside ours. Victims are trained from scratch, from initialisations
that the poisoner has not seen. An attack succeeds where the victim takes the target, unchanged, for the class that the
poisoner wants."""

PAPER = Paper(
    name="metapoison",
    heading="MetaPoison",
    introduction=INTRODUCTION,
    package=__package__,
    modules={"figure-3": "figures", "figure-4": "figures", "figure-5": "figures", "figure-6": "figures"},
    in_part=True,
)
