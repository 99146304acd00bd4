"""Reference distributions, conformal p-values and detector packs: what turns a score into a judgement."""

from __future__ import annotations

from ._conformal import Judgement, ReferenceScores, conformal_p_value, judge
from ._pack import DetectorPack, find_pack, load_pack, shipped_packs

__all__ = [
    "DetectorPack",
    "Judgement",
    "ReferenceScores",
    "conformal_p_value",
    "find_pack",
    "judge",
    "load_pack",
    "shipped_packs",
]
