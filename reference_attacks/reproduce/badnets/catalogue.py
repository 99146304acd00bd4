"""Which tables and figures of BadNets can be reproduced, and the module that holds each."""

from __future__ import annotations

from ..parts import Paper

INTRODUCTION = """\
Tables and figures of Gu, Liu, Dolan-Gavitt and Garg: *BadNets: Evaluating Backdooring Attacks on Deep Neural Networks*
(2019), measured again, the paper's numbers beside ours. Errors on backdoored images are against the attacker's labels
where nothing else is said: low is good for the attacker."""

PAPER = Paper(
    name="badnets",
    heading="BadNets",
    introduction=INTRODUCTION,
    package=__package__,
    modules={
        "figure-4": "digits",
        "table-2": "digits",
        "figure-5": "digits",
        "figure-6": "digits",
        "table-4": "signs",
        "figure-8": "signs",
        "table-5": "signs",
        "figure-9": "transfer",
        "table-6": "transfer",
        "figure-11": "transfer",
        "table-7": "transfer",
    },
)
