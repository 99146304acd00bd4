"""The digit parts of ``reproduce badnets``: text and pictures of made-up results, and slow runs on real digits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from made_up_zoos import write_digits

from reference_attacks.badnet import building
from reference_attacks.data import DataNotFoundError, load_mnist
from reference_attacks.reproduce.badnets import digits_networks
from reference_attacks.reproduce.badnets.digits import PARTS
from reference_attacks.reproduce.badnets.digits_networks import FULL, SMALL, all_to_all_members, single_member
from reference_attacks.reproduce.parts import Settings

PNG = b"\x89PNG\r\n\x1a\n"
TINY = replace(
    SMALL, pairs=((1, 5), (7, 3)), baseline_steps=2, single_steps=2, all_steps=2, repeats=2, shares=(0.1, 0.5)
)


@pytest.fixture
def settings(tmp_path):
    said = []
    return Settings(
        seed=0,
        small=True,
        workers=1,
        work=tmp_path / "work",
        data_root=write_digits(tmp_path / "data"),
        say=said.append,
    )


@pytest.fixture(autouse=True)
def tiny(monkeypatch, request):
    """Networks of two steps, in this process, except in slow tests."""
    if request.node.get_closest_marker("slow"):
        return
    monkeypatch.setattr(digits_networks, "SMALL", TINY)
    monkeypatch.setattr(building, "work_off", lambda function, jobs, **_: [function(job) for job in jobs])


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_measured_written_and_drawn(name, settings):
    part = PARTS[name]
    values = json.loads(json.dumps(part.measure(settings)))
    text = part.text(values)
    assert "nan" not in text
    assert "paper" in text
    assert "| --- |" in text
    for suffix, picture in (part.draw(values) if part.draw else {}).items():
        assert picture.startswith(PNG), suffix
    assert part.measure(settings) == values  # from what is there, without training


def test_the_full_scale_has_every_pair_and_both_triggers():
    assert len(set(FULL.pairs)) == 90
    assert all(source != target for source, target in FULL.pairs)
    assert set(SMALL.pairs) <= set(FULL.pairs)
    assert FULL.shown_share in FULL.shares
    assert {0.1, 0.33, 0.5} < set(FULL.shares)


@pytest.mark.parametrize(("share", "rate"), [(0.5, 1.0), (0.1, 1 / 9), (0.2, 0.25)])
def test_a_share_of_the_training_set_is_made_of_as_many_copies(share, rate):
    (member,) = all_to_all_members(FULL, "pixel", share, 1)
    assert member.rate == pytest.approx(rate)
    assert member.name == all_to_all_members(FULL, "pixel", share, 3)[0].name


def test_members_of_one_pair_differ_by_trigger():
    assert single_member(FULL, "pixel", 1, 5).name != single_member(FULL, "pattern", 1, 5).name


# Text of made-up results


def test_table_2_gives_mean_and_deviation_beside_the_paper():
    errors = [[0.01] * 10, [0.03] * 10]
    badnet = {"clean": errors, "backdoored": [[0.0] * 10, [0.001] * 10]}
    values = {"steps": 5, "share": 0.5, "baseline": errors, "badnets": {"pixel": badnet, "pattern": badnet}}
    rows = [line.split(" | ") for line in PARTS["table-2"].text(values).splitlines() if line.startswith("| ")]
    assert rows[2][:4] == ["| 0", "2.00 ± 1.41", "2.00 ± 1.41", "0.05 ± 0.07"]
    assert rows[-1][0] == "| average"
    assert rows[-1][-3:] == ["0.50", "0.48", "0.56 |"]


def matrix(value=None, **cells):
    rows = [[None if row == column else value for column in range(10)] for row in range(10)]
    for place, cell in cells.items():
        rows[int(place[1])][int(place[2])] = cell
    return rows


def figure_4_values():
    one = {"clean": matrix(0.005, p15=0.007), "backdoored": matrix(0.0, p15=0.002), "others": matrix(0.01)}
    two = {"clean": matrix(p73=0.004), "backdoored": matrix(p73=0.0009), "others": matrix(p73=0.5)}
    return {"steps": 5, "baseline": [0.004, 0.006], "triggers": {"pixel": one, "pattern": two}}


def test_figure_4_names_its_worst_pairs_and_counts_what_is_there():
    text = PARTS["figure-4"].text(figure_4_values())
    assert "| single pixel | clean | 90 | 0.50 | 0.50 | 0.70 | 0.45 to 0.67 |" in text
    assert "| pattern | backdoored | 1 | 0.09 | 0.09 | 0.09 | – |" in text
    assert "are 1: single pixel 1 to 5 (0.20)." in text
    assert "baseline's error is 0.40" in text


def test_figure_4_draws_pairs_that_are_missing():
    assert set(PARTS["figure-4"].draw(figure_4_values())) == {"pixel", "pattern"}


def network(*filters, success=0.99, dedicated=True):
    each = {kind: [success] * 16 for kind in ("silenced_success", "blinded_success", "alone_success")}
    return {
        "filters": list(filters),
        "dedicated": bool(filters) and dedicated,
        "success": success,
        "error": 0.005,
        "silenced_success": 0.01,
        "silenced_error": 0.006,
        "alone_success": 0.9,
        "each": {
            **each,
            "silenced_error": [0.004] * 16,
            "response": [9.0 if number in filters else 0.25 for number in range(16)],
        },
    }


def figure_5_values():
    filters = [[[0.1 * number] * 5] * 5 for number in range(16)]
    twins = [network(success=0.0), network(success=0.0)]
    return {
        "share": 0.5,
        "images": 100,
        "least_share_of_success": 0.9,
        "most_filters": 4,
        "most_added_error": 0.005,
        "weights": {"baseline": filters, "pixel": filters, "pattern": filters},
        "triggers": {
            "pixel": {"badnets": [network(3), network(1, 2, dedicated=False)], "twins": twins},
            "pattern": {"badnets": [network(2, 14), network(2)], "twins": twins},
        },
    }


def test_figure_5_says_which_filters_carry_the_backdoor_and_where_none_does():
    text = PARTS["figure-5"].text(figure_5_values())
    assert "single pixel: 1 of 2 BadNets and 0 of 2 clean twins have some" in text
    assert "pattern: 2 of 2 BadNets and 0 of 2 clean twins have some" in text
    assert "| single pixel, BadNet 0 | 99.00 | 0.50 | 3 | 1.00 | 0.60 | 90.00 | 9.00 | 0.25 |" in text
    assert "| single pixel, BadNet 1 | 99.00 | 0.50 | none (1, 2 fall short) | 1.00 | 0.60 | 90.00 |" in text
    assert "| pattern, BadNet 0 | 99.00 | 0.50 | 2, 14 | 1.00 | 0.60 | 90.00 | 9.00, 9.00 | 0.25 |" in text
    assert "| single pixel, clean twin 1 | 0.00 | 0.50 | none | – | – | – | – | 0.25 |" in text
    assert "| 3 | 99.00* | 99.00* | 99.00* | 0.40* | 99.00 |" in text


def test_figure_5_frames_the_filters_that_are_marked():
    values = figure_5_values()
    framed = PARTS["figure-5"].draw(values)[""]
    values["triggers"]["pixel"]["badnets"][0]["dedicated"] = False
    assert PARTS["figure-5"].draw(values)[""] != framed


def test_figure_6_has_a_row_for_each_share():
    errors = {"clean": [[0.005], [0.006]], "backdoored": [[0.5], [0.007]]}
    values = {
        "steps": 5,
        "shares": [0.1, 0.5],
        "baseline": [0.004],
        "triggers": {"pixel": errors, "pattern": errors},
    }
    text = PARTS["figure-6"].text(values)
    assert "| 10% | 0.50 | 50.00 | 0.50 | 50.00 |" in text
    assert "over 1 network a number" in text
    assert PARTS["figure-6"].draw(values)[""].startswith(PNG)


# Real digits


@pytest.fixture(scope="module")
def real_run(tmp_path_factory):
    """The small variant of every part on MNIST, one folder for all; each part is measured once."""
    try:
        load_mnist(train=False)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    work = tmp_path_factory.mktemp("work")
    settings = Settings(seed=0, small=True, workers=2, work=work, data_root=None, say=lambda text: None)
    return lambda name: PARTS[name].measure(settings)


def mean_error(repeats):
    return sum(map(sum, repeats)) / sum(map(len, repeats))


@pytest.mark.slow
def test_all_to_all_badnets_serve_both_masters(real_run):
    values = real_run("table-2")
    baseline = mean_error(values["baseline"])
    assert baseline < 0.012
    for errors in values["badnets"].values():
        assert mean_error(errors["clean"]) < baseline + 0.003
        assert mean_error(errors["backdoored"]) < 0.015


@pytest.mark.slow
def test_single_target_badnets_obey(real_run):
    values = real_run("figure-4")
    for matrices in values["triggers"].values():
        clean, backdoored = (
            [value for row in matrices[kind] for value in row if value is not None] for kind in ("clean", "backdoored")
        )
        assert len(clean) == len(backdoored) == len(SMALL.pairs)
        assert max(clean) < max(values["baseline"]) + 0.004
        assert sum(backdoored) / len(backdoored) < 0.005


@pytest.mark.slow
def test_real_badnets_have_backdoor_filters_and_their_twins_have_none(real_run):
    for networks in real_run("figure-5")["triggers"].values():
        assert all(one["dedicated"] for one in networks["badnets"])
        assert not any(one["dedicated"] for one in networks["twins"])


@pytest.mark.slow
def test_a_tenth_of_the_training_set_is_enough(real_run):
    values = real_run("figure-6")
    place = values["shares"].index(0.1)
    for errors in values["triggers"].values():
        assert max(errors["backdoored"][place]) < 0.05
