"""The reference pages are those of the code."""

from __future__ import annotations

import json
import tomllib

import pytest
from page_blocks import ROOT

from pytest_backdoor.checks import check_names
from pytest_backdoor.checks.provenance._schema import check_lock
from pytest_backdoor.checks.provenance._tables import InvalidLockError
from pytest_backdoor.settings import MODEL_SETTINGS, SETTING_NAMES, ScanSettings
from tools.reference import FILES, REGENERATE, made
from tools.reference.checks import checks_page
from tools.reference.lock_schema import lock_schema
from tools.reference.options import plugin_options
from tools.reference.settings_read import settings_read


@pytest.mark.parametrize("name", FILES)
def test_a_page_is_up_to_date(name):
    pytest.importorskip("torch")
    stale = f"docs/{name} is not what the code says. Write it anew: {REGENERATE}"
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == made(name), stale


def test_every_page_of_the_reference_is_made():
    lying = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / "reference").iterdir()}
    assert lying == {name for name in FILES if name.startswith("reference/")}


def test_every_setting_is_an_option_or_a_key_of_models():
    options = {action.dest.removeprefix("backdoor_") for action in plugin_options()} - {"scan", "report"}
    assert sorted([*options, *MODEL_SETTINGS]) == sorted(SETTING_NAMES)


@pytest.mark.parametrize("name", ["fpr", "timeout", "memory", "seed", "device"])
def test_the_default_that_the_help_names_is_the_default(name):
    (option,) = [action for action in plugin_options() if action.dest == f"backdoor_{name}"]
    default = getattr(ScanSettings(), name)
    assert (
        f"default: {default:g}" in option.help if isinstance(default, float) else f"default: {default}" in option.help
    )


def test_every_check_has_a_section():
    page = checks_page()
    for name in check_names():
        assert f"\n## {name}\n" in page


def test_settings_are_found_in_a_check_and_in_what_it_asks_of_the_scan():
    from pytest_backdoor.checks.litmus import LitmusCheck
    from pytest_backdoor.checks.training_data import TrainingDataCheck

    assert settings_read(LitmusCheck) == ["fpr", "pack"]
    assert settings_read(TrainingDataCheck) == ["data", "train_data", "fpr", "seed"]


LOCK = tomllib.loads((ROOT / "models.lock").read_text(encoding="utf-8"))


def changed(**entry):
    artifact = {**LOCK["artifact"][0], **entry}
    return {**LOCK, "artifact": [{name: value for name, value in artifact.items() if value is not None}]}


HUB = {"type": "hf", "repo": "owner/repo", "file": "m.onnx", "revision": "0" * 40}
ALLOW = {"rule": "plain-http", "reason": "compared by telephone", "until": "2027-01-31"}
SIGNATURE = {"method": "key", "bundle": "m.sig", "key": "m.pub"}
RIGHT = {
    "this repository's": LOCK,
    "a source": changed(source=HUB),
    "an exception": changed(allow=[ALLOW]),
    "a signature": changed(signature=SIGNATURE),
    "policies": {**LOCK, "policy": {"allow-http": True}},
}
WRONG = {
    "an unknown key": {**LOCK, "artifacts": []},
    "another version": {**LOCK, "lock-version": "2"},
    "no hash": changed(sha256=None),
    "a short hash": changed(sha256="abc"),
    "an unknown format": changed(format="pickle"),
    "a revision that is no text": changed(source={**HUB, "revision": 3}),
    "a source of an unknown type": changed(source={"type": "ftp", "url": "x"}),
    "a rule that cannot be allowed": changed(allow=[{**ALLOW, "rule": "hash-mismatch"}]),
    "a signature without its key": changed(signature={"method": "key", "bundle": "m.sig"}),
    "a policy that is no flag": {**LOCK, "policy": {"allow-http": "yes"}},
}


@pytest.mark.parametrize("lock", RIGHT.values(), ids=RIGHT)
def test_the_schema_takes_what_the_code_takes(lock):
    jsonschema = pytest.importorskip("jsonschema")
    check_lock(lock)
    jsonschema.validate(lock, lock_schema())


@pytest.mark.parametrize("lock", WRONG.values(), ids=WRONG)
def test_the_schema_refuses_what_the_code_refuses(lock):
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(InvalidLockError):
        check_lock(lock)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(lock, lock_schema())


def test_both_schemas_are_schemas():
    jsonschema = pytest.importorskip("jsonschema")
    for path in sorted((ROOT / "docs" / "schema").glob("*.json")):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))
