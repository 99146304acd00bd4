"""Reference distributions, conformal p-values and detector packs: what turns a score into a judgement."""

from __future__ import annotations

from ._classes import ClassStatistics, broad_note, class_statistics, held_out_scores
from ._conformal import Judgement, ReferenceScores, conformal_p_value, judge, judge_jointly
from ._find import find_packs, how_to_build, shipped_packs
from ._object_pack import ObjectDetectorPack, load_object_pack
from ._pack import DetectorPack, eight_bit, load_pack
from ._task import pattern_template, prototype_template

__all__ = [
    "ClassStatistics",
    "DetectorPack",
    "Judgement",
    "ObjectDetectorPack",
    "ReferenceScores",
    "broad_note",
    "class_statistics",
    "conformal_p_value",
    "eight_bit",
    "find_packs",
    "held_out_scores",
    "how_to_build",
    "judge",
    "judge_jointly",
    "load_object_pack",
    "load_pack",
    "pattern_template",
    "prototype_template",
    "shipped_packs",
]
