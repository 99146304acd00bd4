"""Colours that are told apart in every kind of colour vision (Okabe and Ito), and what they stand for."""

from __future__ import annotations

ARM_COLOURS = {"poisoned": "#D55E00", "random": "#0072B2", "clean": "#555555"}
ARM_LABELS = {"poisoned": "crafted poisons", "random": "random perturbation", "clean": "unperturbed"}
PAIR_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PAIR_MARKERS = ("o", "s", "^", "D", "v", "P")
