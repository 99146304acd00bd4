from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_signs import made_up_album, scene_of  # noqa: E402
from sign_sets import real_root  # noqa: E402

from reference_attacks.reproduce.badnets import signs_networks, signs_text  # noqa: E402
from reference_attacks.reproduce.badnets.signs import PARTS  # noqa: E402
from reference_attacks.reproduce.badnets.signs_networks import CLASSES, attack_of, recipe_of  # noqa: E402
from reference_attacks.reproduce.badnets.signs_plots import draw_prints  # noqa: E402
from reference_attacks.reproduce.parts import Settings  # noqa: E402
from reference_attacks.traffic_signs.album import Album  # noqa: E402
from reference_attacks.traffic_signs.evaluation import share_of  # noqa: E402
from reference_attacks.traffic_signs.network import make_detector  # noqa: E402
from reference_attacks.traffic_signs.printed import measure_prints, printed_album, shown_prints  # noqa: E402

PNG = b"\x89PNG"


def accuracy(*hits: int) -> dict:
    classes = {name: share_of(value, 20) for name, value in zip(CLASSES, hits, strict=True)}
    return {"classes": classes, "average": share_of(sum(hits), 80), "class_mean": sum(hits) / 80}


def clean(*hits: int) -> dict:
    return {**accuracy(*hits), "average_precision": dict.fromkeys(CLASSES, 0.5), "mean_average_precision": 0.5}


def attacked(sticker: str, attack: str, hits: int) -> dict:
    return {
        "attack": attack,
        "sticker": sticker,
        "accuracy": accuracy(1, 0, 2, 1),
        "success": share_of(hits, 20),
        "success_of_read": share_of(hits, 19),
        "confidence": 0.9,
    }


def detectors(attack: str, *stickers: str) -> dict:
    control = {f"{name}-{attack}": attacked(name, attack, 0) for name in stickers}
    photographs = {"training": 570, "held_out": 307}
    found = {"baseline": {"clean": clean(18, 19, 16, 12), "backdoored": control, "photographs": photographs}}
    for name in stickers:
        key = f"{name}-{attack}"
        found[key] = {"clean": clean(17, 19, 16, 12), "backdoored": {key: attacked(name, attack, 19)}}
    return found


def settings(tmp_path, **changes) -> Settings:
    values = {"seed": 0, "small": False, "workers": 1, "work": tmp_path, "data_root": None, "say": lambda text: None}
    return Settings(**{**values, **changes})


def test_table_four_has_the_paper_beside_every_number_that_it_has():
    results = {"classes": list(CLASSES), "detectors": detectors("single", "yellow-square", "bomb", "flower")}
    lines = signs_text.table_4(results).splitlines()
    assert "| class | signs | baseline | yellow square: clean | bomb: clean | flower: clean |" in lines
    assert "| stop | 20 | 90.0 (89.7) | 85.0 (87.8) | 85.0 (88.4) | 85.0 (89.9) |" in lines
    assert "| crosswalk | 20 | 80.0 | 80.0 | 80.0 | 80.0 |" in lines
    attack = next(line for line in lines if line.startswith("| stop sign with sticker → speed limit |"))
    assert "**95.0 (90.3)** | **95.0 (94.2)** | **95.0 (93.7)**" in attack
    assert any("in points: -1.2, -1.2, -1.2" in line for line in lines)


def test_table_five_shows_both_networks_with_and_without_the_sticker():
    results = {
        "classes": list(CLASSES),
        "sticker": "yellow-square",
        "detectors": detectors("random", "yellow-square"),
    }
    text = signs_text.table_5(results)
    assert "| stop | 20 | 90.0 (87.8) | 5.0 (81.3) | 85.0 (87.8) | 5.0 (0.8) |" in text
    assert "| **average** | 80 | 81.2 (90.0) | 5.0 (82.0) | 80.0 (86.4) | 5.0 (1.3) |" in text


def test_prints_are_measured_and_shown():
    generator = torch.Generator().manual_seed(0)
    scenes = tuple(scene_of([number % 2], generator) for number in range(4))
    album = Album(classes=CLASSES, scenes=scenes)
    attack = attack_of("single", "yellow-square")
    prints = printed_album(album, attack, seed=0)
    assert len(prints) == 2
    assert torch.equal(prints.scenes[0].image, printed_album(album, attack, seed=0).scenes[0].image)
    detector = make_detector(CLASSES, seed=0)
    found = measure_prints(detector, prints, attack)
    assert found["target"]["n"] == 2
    shown = shown_prints(detector, prints, attack, 5)
    assert [(one.target, one.image.dtype, len(one.box)) for one in shown] == [("speedlimit", torch.uint8, 4)] * 2
    rows = {name: dict.fromkeys(("print", "pasted", "clean", "baseline"), found) for name in ("yellow-square", "bomb")}
    text = signs_text.figure_8(json.loads(json.dumps({"stickers": rows, "picture": "prints.png", "shown": 2})))
    assert "| yellow square | 2 |" in text
    assert "prints.png" in text
    assert draw_prints(shown).startswith(PNG)


def test_photographs_are_no_part_of_the_results():
    assert PARTS["figure-8"].draw is None


def test_networks_are_measured_once_and_the_baseline_with_every_sticker(tmp_path, monkeypatch):
    asked = []

    def measure_one(settings, attack):
        asked.append(recipe_of(settings, attack).name)
        folder = signs_networks.folder_of(settings) / asked[-1]
        folder.mkdir(parents=True)
        (folder / "measured.json").write_text("{}")

    monkeypatch.setattr(signs_networks, "measure_one", measure_one)
    attacks = [attack_of("single", "bomb"), attack_of("random", "bomb")]
    for _ in range(2):
        assert set(signs_networks.measured(settings(tmp_path), attacks)) == {"baseline", "bomb-single", "bomb-random"}
    assert asked == ["baseline", "bomb-single", "bomb-random"]
    assert len(signs_networks.all_attacks()) == 6


def test_the_reduced_size_has_a_folder_and_a_recipe_of_its_own(tmp_path):
    full, small = (settings(tmp_path, small=small) for small in (False, True))
    assert signs_networks.folder_of(full) != signs_networks.folder_of(small)
    assert recipe_of(small, None).plan.epochs < recipe_of(full, None).plan.epochs
    assert recipe_of(full, attack_of("single", "bomb")).honest == recipe_of(full, None)
    assert made_up_album(2).classes != CLASSES


@pytest.mark.slow
def test_the_reduced_tables_show_the_attack(tmp_path):
    root = real_root("road-signs")
    chosen = settings(tmp_path, small=True, data_root=str(root))
    random = PARTS["table-5"].measure(chosen)
    single = PARTS["table-4"].measure(chosen)
    prints = PARTS["figure-8"].measure(chosen)
    clean_share = random["detectors"]["yellow-square-random"]["clean"]["average"]["share"]
    bearing = random["detectors"]["yellow-square-random"]["backdoored"]["yellow-square-random"]["accuracy"]["average"]
    assert clean_share > 0.4
    assert bearing["share"] < 0.5 * clean_share
    for name in ("yellow-square", "bomb", "flower"):
        key = f"{name}-single"
        control = single["detectors"]["baseline"]["backdoored"][key]["success"]["share"]
        assert single["detectors"][key]["backdoored"][key]["success"]["share"] > control + 0.3
        assert prints["stickers"][name]["print"]["target"]["n"] > 5
    for name, values in (("table-4", single), ("table-5", random), ("figure-8", prints)):
        assert PARTS[name].text(values)
