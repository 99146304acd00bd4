"""Tables VI and VII, Figures 9 and 11 of BadNets: their text and pictures, and classifiers of real signs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from sign_sets import real_root  # noqa: E402

from reference_attacks.reproduce.badnets.transfer import PARTS, measure_figure, measure_table_6, measure_table_7  # noqa: E402
from reference_attacks.reproduce.parts import Settings  # noqa: E402

CLASSES = {"prohibitory": 40, "mandatory": 20, "danger": 20, "other": 20}


def heads(clean: list[int], backdoored: list[int], strength: int = 1) -> dict:
    """Two heads; the second reads one sign of the first class less."""
    rows = {"clean": clean, "backdoored": backdoored}
    found = {name: [row, [row[0] - 1, *row[1:]]] for name, row in rows.items()}
    return {"strength": strength, "classes": CLASSES, **found}


def network(share: float, seed: int) -> dict:
    """A made-up network: the honest one loses 2 signs with the sticker, a BadNet 40, one more for each strength."""
    clean = [38, 19, 19, 19]
    second = [heads(clean, [36, 19, 19, 19])]
    if share:
        second = [heads(clean, [10 - number, 15, 15, 15], k) for number, k in enumerate((1, 10))]
    accuracy = {"share": 0.9, "hits": 9, "n": 10, "interval_95": [0.6, 1.0]}
    activations = {"clean": [0.1] * 128, "backdoored": [0.1] * 64 + [0.9] * 64}
    return {
        "share": share,
        "seed": seed,
        "first": {"clean": accuracy, "backdoored": {**accuracy, "share": 0.02 if share else 0.85}},
        "neurons": {"dedicated": [5, 99] if share else []},
        "second": second,
        "kinds": heads(clean, [20, 10, 10, 10]),
        "activations": {"first": activations, "second": activations},
    }


@pytest.fixture
def made_up(monkeypatch):
    networks = [network(share, seed) for seed in range(2) for share in (0, 0.1)] + [network(0.003, 0)]
    detectors = {
        name: {**network(share, 0), "photographs": {"training": 500, "held_out": 250}}
        for name, share in (("honest", 0), ("badnet", 0.1))
    }
    import reference_attacks.reproduce.badnets.transfer as module

    monkeypatch.setattr(module, "_classifiers", lambda settings: networks)
    monkeypatch.setattr(module, "_detectors", lambda settings: detectors)
    sizes = {name: [{**found["second"][0], "share": 0.16}] for name, found in detectors.items()}
    monkeypatch.setattr(module, "_sizes", lambda settings: sizes)


def settings(folder: Path, *, small: bool, root: Path | None = None) -> Settings:
    return Settings(seed=0, small=small, workers=2, work=folder, data_root=root and str(root), say=lambda text: None)


@pytest.mark.parametrize("small", [True, False])
def test_table_6_has_both_networks_beside_the_paper(made_up, small, tmp_path):
    results = measure_table_6(settings(tmp_path, small=small))
    text = PARTS["table-6"].text(results)
    assert "| **average** | 100 | 94.5 | 92.5 | 94.5 | 54.5 |" in text
    assert ("| **average** | 100 | 94.5 (72.7) | 92.5 (70.2) | 94.5 (74.9) | 54.5 (61.6) |" in text) is not small
    assert ("| mandatory | 20 | 95.0 (55.3) | 95.0 (50.5) | 95.0 (69.0) | 75.0 (46.7) |" in text) is not small
    assert "Drop of the BadNet with the sticker: 40.0 ± " in text
    assert "2 networks" in text
    assert ("| 16 % | 94.5 | 92.5 | 2.0 | 94.5 | 54.5 | 40.0 |" in text) is not small
    assert ("500 photographs for training, 250 held out" in text) is not small


@pytest.mark.parametrize("small", [True, False])
def test_table_7_has_one_line_for_each_strength(made_up, small, tmp_path):
    results = measure_table_7(settings(tmp_path, small=small))
    text = PARTS["table-7"].text(results)
    assert "| 1 | 94.5 | 54.5 | 40.0 | 40.0 to 40.0 | 4 |" in text
    assert "| 10 | 94.5 | 53.5 | 41.0 | 41.0 to 41.0 | 4 |" in text
    assert text.index("0.1 poisoned copies") < text.index("0.003 poisoned copies")
    assert ("| 10 | 94.5 (71.3) | 53.5 (49.7) | 41.0 (21.6) | 41.0 to 41.0 | 2 |" in text) is not small


@pytest.mark.parametrize("part", ["figure-9", "figure-11"])
def test_figures_show_the_neurons_that_were_found(made_up, part, tmp_path):
    country = "first" if part == "figure-9" else "second"
    results = measure_figure(settings(tmp_path, small=False), country=country)
    assert results["classifiers"]["dedicated"] == [5, 99]
    assert results["classifiers"]["found"] == {"honest": [0, 0], "badnet": [2, 2]}
    pictures = PARTS[part].draw(results)
    assert sorted(pictures) == ["classifiers", "detectors"]
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
    text = PARTS[part].text(results)
    expected = "2, 2 in BadNets, 0, 0 in honest networks" if part == "figure-9" else "classifiers: 5.0 times"
    assert expected in text


@pytest.mark.slow
def test_the_backdoor_of_real_classifiers_lives_on_in_another_country(tmp_path):
    """The small variant: the bars of Tables VI and VII."""
    run = settings(tmp_path, small=True, root=real_root("gtsrb"))
    found = measure_table_6(run)["classifiers"]

    def drops(entry: dict) -> list[float]:
        signs = sum(entry["classes"].values())
        pairs = zip(entry["clean"], entry["backdoored"], strict=True)
        return [(sum(clean) - sum(backdoored)) / signs for clean, backdoored in pairs]

    assert max(drops(found["honest"])) < 0.05
    assert min(drops(found["badnet"])) >= 0.13
    series = measure_table_7(run)["classifiers"][0]
    assert min(series["neurons"]) >= 1
    strong = [drops(entry) for entry in series["strengths"] if 1 < entry["strength"] <= 30]
    assert max(min(found) for found in strong) >= 0.25
    assert measure_figure(run, country="first")["classifiers"]["found"]["honest"] == [0, 0]
    assert all(part.text(part.measure(run)) for part in PARTS.values())
