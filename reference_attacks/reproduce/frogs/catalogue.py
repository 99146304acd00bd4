"""Which figures of Poison Frogs can be reproduced, and the module that holds each."""

from __future__ import annotations

from ..parts import Paper

INTRODUCTION = """\
Figures of Shafahi, Huang, Najibi, Suciu, Studer, Dumitras and Goldstein: *Poison Frogs! Targeted Clean-Label Poisoning
Attacks on Neural Networks* (2018), measured again, the paper's numbers beside ours. An attack succeeds where the
retrained network takes the target, unchanged, for the class of the base."""

PAPER = Paper(
    name="frogs",
    heading="Poison Frogs",
    introduction=INTRODUCTION,
    package=__package__,
    modules={
        "figure-1": "transfer",
        "figure-2": "transfer",
        "figure-3": "end_to_end",
        "figure-5": "end_to_end",
        "ablation": "end_to_end",
    },
)
