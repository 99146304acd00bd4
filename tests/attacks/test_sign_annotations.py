"""The four annotation formats: what is read, every kind of damage with its file and line, and sets that are absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from sign_sets import HEIGHT, WIDTH, picture, voc_file, voc_object  # noqa: E402

from reference_attacks.data import DataNotFoundError  # noqa: E402
from reference_attacks.traffic_signs.annotations import gtsdb, lisa  # noqa: E402
from reference_attacks.traffic_signs.annotations.entries import DamagedAnnotationError  # noqa: E402
from reference_attacks.traffic_signs.photographs import SignSet, load_sign_set  # noqa: E402

LISA_HEADER = (
    "Filename;Annotation tag;Upper left corner X;Upper left corner Y;Lower right corner X;Lower right corner Y;"
    "Occluded,On another road;Origin file;Origin frame number;Origin track;Origin track frame number"
)


def write_lisa(root: Path, *lines: str, header: str = LISA_HEADER) -> Path:
    """Good lines may name ``clip/1.png``; the first line after the header is line 2."""
    picture(root / "lisa" / "clip" / "1.png")
    file = root / "lisa" / "allAnnotations.csv"
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8-sig")
    return file


def lisa_line(tag: str, corners: str, name: str = "clip/1.png") -> str:
    return f"{name};{tag};{corners};0,0;clip/1.avi;3;1.avi;0"


def write_gtsdb(root: Path, *lines: str) -> Path:
    picture(root / "gtsdb" / "00000.jpg")
    file = root / "gtsdb" / "gt.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def write_swedish(root: Path, *lines: str) -> Path:
    picture(root / "swedish" / "Set1" / "Set1Part0" / "1.jpg")
    file = root / "swedish" / "Set1" / "annotations.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def write_road_signs(root: Path, *objects: str) -> Path:
    return voc_file(root / "road-signs", "road0", "".join(objects))


def signs_of(loaded: SignSet) -> list[tuple[str, str, list[float]]]:
    """File name, class and box of every sign."""
    return [
        (photograph.path.name, loaded.classes[label], box)
        for photograph in loaded.photographs
        for label, box in zip(photograph.labels.tolist(), photograph.boxes.tolist(), strict=True)
    ]


def test_pascal_voc_in_lower_case_counts_from_zero(tmp_path):
    write_road_signs(tmp_path, voc_object("stop", (0, 1, WIDTH, 20)), voc_object("crosswalk", (2.5, 3, 9, 9)))
    assert signs_of(load_sign_set("road-signs", tmp_path)) == [
        ("road0.jpg", "stop", [0, 1, WIDTH, 20]),
        ("road0.jpg", "crosswalk", [2.5, 3, 9, 9]),
    ]


def test_pascal_voc_in_the_challenges_layout_counts_from_one_and_names_its_own_classes(tmp_path):
    for stem, name in (("b", "zebra"), ("a", "lamp")):
        voc_file(tmp_path / "own", stem, voc_object(name, (1, 1, 10, 12)), ("JPEGImages", "Annotations"))
    loaded = load_sign_set("own", tmp_path)
    assert loaded.classes == ("lamp", "zebra")
    assert signs_of(loaded) == [("a.jpg", "lamp", [0, 0, 10, 12]), ("b.jpg", "zebra", [0, 0, 10, 12])]


def test_pascal_voc_pictures_may_have_another_ending_than_the_annotation_says(tmp_path):
    file = write_road_signs(tmp_path, voc_object("stop", (0, 0, 9, 9)))
    for name in ("road0.png", "road0", ""):
        file.write_text(f"<annotation><filename>{name}</filename>{voc_object('stop', (0, 0, 9, 9))}</annotation>")
        assert signs_of(load_sign_set("road-signs", tmp_path))[0][0] == "road0.jpg"


def test_pascal_voc_parts_of_an_object_are_not_the_object(tmp_path):
    part = "<part><name>post</name><bndbox><xmin>1</xmin></bndbox></part>"
    write_road_signs(tmp_path, voc_object("stop", (5, 5, 9, 9)).replace("</object>", f"{part}</object>"))
    assert signs_of(load_sign_set("road-signs", tmp_path)) == [("road0.jpg", "stop", [5, 5, 9, 9])]


def test_gtsdb_has_inclusive_corners_and_groups(tmp_path):
    write_gtsdb(tmp_path, "00000.ppm;0;1;9;11;14", "", "00000.ppm;20;20;29;29;1")
    assert signs_of(load_sign_set("gtsdb", tmp_path)) == [
        ("00000.jpg", "other", [0, 1, 10, 12]),
        ("00000.jpg", "prohibitory", [20, 20, 30, 30]),
    ]
    assert [name for _, name, _ in signs_of(load_sign_set("gtsdb-43", tmp_path))] == ["stop", "speed limit 30"]


def test_the_german_groups_are_the_benchmarks():
    assert len(gtsdb.SIGN_NAMES) == 43
    groups = [gtsdb.group_of(number) for number in range(43)]
    assert [groups.count(group) for group in gtsdb.GROUPS] == [12, 8, 15, 8]
    assert [number for number, group in enumerate(groups) if group == "other"] == [6, 12, 13, 14, 17, 32, 41, 42]


def test_lisa_maps_tags_to_the_papers_three_classes_and_counts_the_others(tmp_path):
    tags = ("stop", "speedLimit35", "speedLimitUrdbl", "pedestrianCrossing", "roundabout", "keepRight", "keepRight")
    write_lisa(tmp_path, *(lisa_line(tag, "1;2;11;12") for tag in tags))
    loaded = load_sign_set("lisa", tmp_path)
    assert loaded.classes == ("stop", "speedlimit", "warning")
    expected = ["stop", "speedlimit", "speedlimit", "warning", "warning"]
    assert [name for _, name, _ in signs_of(loaded)] == expected
    assert loaded.left_out == {"keepRight": 2}
    assert signs_of(loaded)[0] == ("1.png", "stop", [1, 2, 11, 12])


@pytest.mark.parametrize("tag", ["rampSpeedAdvisory35", "schoolSpeedLimit25", "truckSpeedLimit55", "yield", "school"])
def test_lisa_tags_outside_the_super_classes(tag):
    assert tag not in lisa.WARNING_TAGS + lisa.SPEED_LIMIT_TAGS


def test_lisa_recordings_without_the_common_file(tmp_path):
    for clip in ("b", "a"):
        picture(tmp_path / "lisa" / clip / "frames" / "1.png")
        file = tmp_path / "lisa" / clip / "frameAnnotations.csv"
        file.write_text(f"{LISA_HEADER}\n{lisa_line('stop', '1;2;11;12', 'frames/1.png')}\n")
    paths = [photograph.path for photograph in load_sign_set("lisa", tmp_path).photographs]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["lisa/a/frames/1.png", "lisa/b/frames/1.png"]


def test_swedish_corners_in_either_order_and_signs_without_a_box(tmp_path):
    write_swedish(
        tmp_path,
        "1.jpg:VISIBLE, 30.5, 31.0, 10.25, 11.0, PROHIBITORY, 50_SIGN;"
        "OCCLUDED, 1, 2, 9, 8, INFORMATION, PEDESTRIAN_CROSSING;MISC_SIGNS;",
        "2.jpg:",
        "3.jpg:MISC_SIGNS;",
    )
    loaded = load_sign_set("swedish", tmp_path)
    assert loaded.classes == ("information", "mandatory", "prohibitory", "warning", "other")
    assert signs_of(loaded) == [
        ("1.jpg", "prohibitory", [10.25, 11.0, 30.5, 31.0]),
        ("1.jpg", "information", [1, 2, 9, 8]),
    ]
    assert loaded.left_out == {"MISC_SIGNS": 2}


def test_swedish_sets_one_and_two_are_read_together(tmp_path):
    for part in ("Set1", "Set2"):
        picture(tmp_path / "swedish" / part / f"{part}Part0" / "same-name.jpg")
        line = "same-name.jpg:VISIBLE, 9, 9, 1, 1, WARNING, CURVE;\n"
        (tmp_path / "swedish" / part / "annotations.txt").write_text(line)
    parts = [photograph.path.parts[-2] for photograph in load_sign_set("swedish", tmp_path).photographs]
    assert parts == ["Set1Part0", "Set2Part0"]


GOOD = {
    "road-signs": voc_object("stop", (1, 1, 9, 9)),
    "gtsdb": "00000.jpg;1;1;8;8;14",
    "lisa": lisa_line("stop", "1;1;9;9"),
    "swedish": "1.jpg:VISIBLE, 9, 9, 1, 1, OTHER, OTHER;",
}
WRITE: dict[str, Callable[..., Path]] = {
    "road-signs": write_road_signs,
    "gtsdb": write_gtsdb,
    "lisa": write_lisa,
    "swedish": write_swedish,
}
# Set, the damaged entry that follows a good one, the line on which it stands, and what the report says.
DAMAGED = [
    ("gtsdb", "00000.jpg;1;1;8;8", 2, "5 fields"),
    ("gtsdb", "00000.jpg;1;1;8;8;14;9", 2, "7 fields"),
    ("gtsdb", "00000.jpg;1;x;8;8;14", 2, "'x' is not a number"),
    ("gtsdb", "00000.jpg;1;nan;8;8;14", 2, "'nan' is not a number"),
    ("gtsdb", "00000.jpg;1;1;8;8;43", 2, "'43' is not a class"),
    ("gtsdb", "00000.jpg;1;1;8;8;-1", 2, "'-1' is not a class"),
    ("gtsdb", "00000.jpg;9;1;8;8;14", 2, "empty"),
    ("gtsdb", f"00000.jpg;1;1;8;{HEIGHT + 1};14", 2, "outside the picture"),
    ("gtsdb", "00000.jpg;-2;1;8;8;14", 2, "outside the picture"),
    ("gtsdb", "00001.jpg;1;1;8;8;14", 2, "00001.jpg is missing"),
    ("gtsdb", "../00001.jpg;1;1;8;8;14", 2, "not the name of a picture below"),
    ("gtsdb", "/etc/passwd;1;1;8;8;14", 2, "not the name of a picture below"),
    ("gtsdb", "gt.txt;1;1;8;8;14", 2, "not a picture that can be read"),
    ("gtsdb", "a\0b.jpg;1;1;8;8;14", 2, "not the name of a picture below"),
    ("gtsdb", f"{'a' * 400}.jpg;1;1;8;8;14", 2, "not a picture that can be read"),
    ("gtsdb", ".;1;1;8;8;14", 2, "not a picture that can be read"),
    ("lisa", "clip/1.png;stop;1;1;9;9", 3, "6 fields where the header has 11"),
    ("lisa", lisa_line("stop", "1;1;9;"), 3, "'' is not a number"),
    ("lisa", lisa_line("stop", "1;1;9;inf"), 3, "'inf' is not a number"),
    ("lisa", lisa_line("", "1;1;9;9"), 3, "tag is empty"),
    ("lisa", lisa_line("stop", "9;1;9;9"), 3, "empty"),
    ("lisa", lisa_line("stop", "1;1;99;9"), 3, "outside the picture"),
    ("lisa", lisa_line("stop", "1;1;9;9", "clip/2.png"), 3, "2.png is missing"),
    ("lisa", lisa_line("stop", "1;1;9;9", ""), 3, "not the name of a picture"),
    ("swedish", "1.jpg", 2, "no colon"),
    ("swedish", "1.jpg:VISIBLE, 9, 9, 1, 1, OTHER;", 2, "6 fields"),
    ("swedish", "1.jpg:VISIBLE, 9, 9, 1, 1l, OTHER, OTHER;", 2, "'1l' is not a number"),
    ("swedish", "1.jpg:VISIBLE, 9, 9, 1, 1, SIGN, OTHER;", 2, "'SIGN' is none of"),
    ("swedish", "1.jpg:HIDDEN, 9, 9, 1, 1, OTHER, OTHER;", 2, "'HIDDEN' is none of"),
    ("swedish", "1.jpg:VISIBLE, 9, 9, 9, 1, OTHER, OTHER;", 2, "empty"),
    ("swedish", "1.jpg:VISIBLE, 999, 9, 1, 1, OTHER, OTHER;", 2, "outside the picture"),
    ("swedish", "2.jpg:VISIBLE, 9, 9, 1, 1, OTHER, OTHER;", 2, "2.jpg is missing"),
    ("swedish", "../x.jpg:VISIBLE, 9, 9, 1, 1, OTHER, OTHER;", 2, "not the name of a picture below"),
    ("road-signs", voc_object("stop", (1, 1, "", 9)), 7, "'' is not a number"),
    ("road-signs", voc_object("tree", (1, 1, 9, 9)), 7, "'tree' is none of the classes"),
    ("road-signs", voc_object("", (1, 1, 9, 9)), 7, "has no name"),
    ("road-signs", voc_object("stop", (9, 1, 1, 9)), 7, "empty"),
    ("road-signs", voc_object("stop", (1, 1, 9, 90)), 7, "outside the picture"),
    ("road-signs", "<object><name>stop</name></object>", 7, "lacks xmin, ymin, xmax, ymax"),
]


@pytest.mark.parametrize(("name", "damaged", "line", "problem"), DAMAGED)
def test_damage_is_reported_with_file_and_line_and_skipped_when_asked(tmp_path, name, damaged, line, problem):
    file = WRITE[name](tmp_path, GOOD[name], damaged)
    with pytest.raises(DamagedAnnotationError) as caught:
        load_sign_set(name, tmp_path)
    assert str(caught.value).startswith(f"{file}, line {line}: ")
    assert problem in str(caught.value)
    loaded = load_sign_set(name, tmp_path, skip_damaged=True)
    assert len(signs_of(loaded)) == 1
    assert loaded.skipped == (caught.value.damage,)


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"", 1, "not XML"),
        (b"<annotation>\n<object>\n</annotation>", 3, "not XML"),
        (b"\xff\xfe\x00", 1, "not XML"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY b "c">]>\n<annotation>&b;</annotation>', 2, "DOCTYPE"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd">\n<annotation/>', 1, "DOCTYPE"),
    ],
)
def test_damaged_and_dangerous_xml(tmp_path, content, line, problem):
    write_road_signs(tmp_path, GOOD["road-signs"])
    file = tmp_path / "road-signs" / "annotations" / "road1.xml"
    file.write_bytes(content)
    with pytest.raises(DamagedAnnotationError, match=problem) as caught:
        load_sign_set("road-signs", tmp_path)
    assert (caught.value.damage.file, caught.value.damage.line) == (file, line)
    loaded = load_sign_set("road-signs", tmp_path, skip_damaged=True)
    assert (len(loaded.photographs), len(loaded.skipped)) == (1, 1)


def test_a_lisa_header_without_the_columns(tmp_path):
    write_lisa(tmp_path, GOOD["lisa"], header="Filename;Annotation tag;x;y")
    with pytest.raises(DamagedAnnotationError, match="line 1: the header lacks Upper left corner X"):
        load_sign_set("lisa", tmp_path)


def test_a_box_may_reach_one_pixel_over_the_border_and_is_cut_there(tmp_path):
    write_swedish(tmp_path, f"1.jpg:VISIBLE, {WIDTH + 0.6}, 9, -0.4, 1, OTHER, OTHER;")
    assert signs_of(load_sign_set("swedish", tmp_path)) == [("1.jpg", "other", [0, 1, WIDTH, 9])]


def test_bytes_that_are_no_text_damage_their_line_only(tmp_path):
    file = write_gtsdb(tmp_path, GOOD["gtsdb"])
    file.write_bytes(file.read_bytes() + b"\xff\xfe;1;1;8;8;14\n")
    loaded = load_sign_set("gtsdb", tmp_path, skip_damaged=True)
    assert [damage.line for damage in loaded.skipped] == [2]


@pytest.mark.parametrize("name", ["road-signs", "gtsdb", "gtsdb-43", "lisa", "swedish"])
def test_a_set_that_is_not_there_is_named_with_its_source_and_folder(tmp_path, name):
    with pytest.raises(DataNotFoundError) as caught:
        load_sign_set(name, tmp_path)
    folder = name.removesuffix("-43")
    assert "http" in str(caught.value)
    assert str(tmp_path / folder) in str(caught.value)
    assert f"holds {folder}/" in str(caught.value)


def test_an_unknown_set_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(DataNotFoundError, match="road-signs, gtsdb, gtsdb-43, lisa, swedish"):
        load_sign_set("traffic", tmp_path)
