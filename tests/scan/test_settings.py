from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_backdoor.errors import SettingsError
from pytest_backdoor.settings import SETTING_NAMES, ScanSettings, make_settings


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("checks", "litmus, provenance", ("litmus", "provenance")),
        ("checks", ["litmus"], ("litmus",)),
        ("fpr", 0.5, 0.5),
        ("timeout", 0, 0.0),
        ("timeout", 1.5, 1.5),
        ("memory", 0, 0),
        ("seed", 0, 0),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("device", "cuda:1", "cuda:1"),
        ("device", "mps", "mps"),
        ("data", Path("a/b.npz"), str(Path("a/b.npz"))),
        ("lock", "models.lock", "models.lock"),
        ("pack", Path("pack.npz"), "pack.npz"),
        ("layout", "NHWC", "NHWC"),
        ("input_range", [-1, 1], (-1.0, 1.0)),
        ("mean", 0.5, (0.5,)),
        ("mean", [0.1, 0.2, 0.3], (0.1, 0.2, 0.3)),
        ("std", [1, 2], (1.0, 2.0)),
        ("classes", ["a", "b"], ("a", "b")),
        ("factory", "package.module:build", "package.module:build"),
        ("input_shape", [3, 32, 32], (3, 32, 32)),
        ("channel_order", "BGR", "BGR"),
        ("allow_unverified", True, True),
        ("seed", None, 0),
    ],
)
def test_valid(name, given, kept):
    assert getattr(make_settings({name: given}, where="here"), name) == kept


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("checks", []),
        ("checks", ""),
        ("checks", [1]),
        ("checks", 1),
        ("fpr", 0),
        ("fpr", 1),
        ("fpr", "0.01"),
        ("fpr", True),
        ("fpr", float("nan")),
        ("timeout", -1),
        ("timeout", float("inf")),
        ("memory", 0.5),
        ("memory", True),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", "1"),
        ("device", "gpu"),
        ("device", "cuda:-1"),
        ("device", ""),
        ("data", ""),
        ("data", 1),
        ("layout", "CHW"),
        ("input_range", [1, 0]),
        ("input_range", [0, 0]),
        ("input_range", 5),
        ("channel_order", "bgr"),
        ("channel_order", ["BGR"]),
        ("mean", []),
        ("mean", "0.5"),
        ("mean", [float("nan")]),
        ("std", [0]),
        ("std", -1),
        ("classes", [1, 2]),
        ("factory", "package.module"),
        ("factory", ":build"),
        ("source", 1),
        ("input_shape", [32, 32]),
        ("input_shape", [3, 32, 0]),
        ("input_shape", [3, 32, 32.0]),
        ("allow_unverified", 1),
    ],
)
def test_not_valid(name, given):
    with pytest.raises(SettingsError, match=f"^here: {name} = .* is not valid: "):
        make_settings({name: given}, where="here")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fqr", "Did you mean 'fpr'"),
        ("input_rnage", "Did you mean 'input_range'"),
        ("pth", "Did you mean 'path'"),
        ("entirely_else", "Known settings: accept, allow_unverified, channel_order, checks, .*path"),
    ],
)
def test_unknown(name, says):
    with pytest.raises(SettingsError, match=f"^here has no setting '{name}'. {says}"):
        make_settings({name: 1}, where="here", also=("path",))


def test_keys_beside_the_settings_are_left_out():
    assert make_settings({"path": 3, "seed": 2}, where="here", also=("path",)) == ScanSettings(seed=2)


def test_settings_survive_json():
    settings = make_settings(
        {"checks": "litmus", "input_range": [0, 255], "mean": 0.5, "input_shape": [1, 8, 8], "classes": ["a", "b"]},
        where="here",
    )
    values = json.loads(json.dumps(settings.to_json()))
    assert tuple(values) == SETTING_NAMES
    assert make_settings(values, where="there") == settings
