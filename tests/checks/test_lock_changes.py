"""What changed in a lock file, and what of that asks for less."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from corpus.locks import COMMIT, GOOD_HF, GOOD_UPSTREAM, MD5, MODEL, OTHER, SHA1, entry, lock_text, upstream

from pytest_backdoor.checks.provenance._changes import lock_changes
from pytest_backdoor.checks.provenance._lockfile import Lock, parse_lock
from pytest_backdoor.cli import DIFFERENT, OK, WRONG, main

KEY = {"method": "key", "bundle": "m.sig", "key": "m.pub"}
ALLOW = [{"rule": "weak-or-short-hash", "reason": "r", "until": "2999-01-01"}]


def parsed(*entries: str, policy: str = "") -> Lock:
    return parse_lock(lock_text(*entries, policy=policy).encode(), Path("models.lock"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"signature": KEY}, {}, id="signature-removed"),
        pytest.param({"signature": KEY}, {"signature": KEY | {"key": "other.pub"}}, id="another-key"),
        pytest.param({"upstream": GOOD_UPSTREAM}, {}, id="upstream-removed"),
        pytest.param({"upstream": GOOD_UPSTREAM}, {"upstream": upstream("md5", MD5)}, id="to-md5"),
        pytest.param({"upstream": upstream("sha1", SHA1)}, {"upstream": upstream("md5", MD5)}, id="sha1-to-md5"),
        pytest.param({}, {"allow": ALLOW}, id="exception"),
        pytest.param(
            {"upstream": GOOD_UPSTREAM, "recorded": {"how": "upstream-match"}},
            {"upstream": GOOD_UPSTREAM, "recorded": {"how": "trust-on-first-use"}},
            id="trusted",
        ),
    ],
)
def test_row_47_what_asks_for_less_is_told(before, after):
    assert any(change.weaker for change in lock_changes(parsed(entry(**before)), parsed(entry(**after))))
    assert not any(change.weaker for change in lock_changes(parsed(entry(**after)), parsed(entry(**before)))) or (
        before.get("signature") and after.get("signature")
    )


def test_row_47_a_relaxed_policy_is_told():
    (change,) = lock_changes(parsed(), parsed(policy="[policy]\nallow-http = true"))
    assert change.weaker
    assert "false → true" in change.text
    (change,) = lock_changes(parsed(policy="[policy]\nrequire-hashes = false"), parsed())
    assert not change.weaker


def test_entries_that_come_go_and_change():
    before = parsed(entry("a"), entry("b"), entry("c", source=GOOD_HF))
    after = parsed(entry("b", OTHER), entry("c", source=GOOD_HF | {"revision": COMMIT[::-1]}), entry("d"))
    changes = {change.text.split(" ")[0].rstrip(":"): change for change in lock_changes(before, after)}
    assert sorted(changes) == ["a", "b", "c", "d"]
    assert [name for name, change in changes.items() if change.weaker] == ["a"]
    assert "→" in changes["b"].text
    assert COMMIT[::-1] in changes["c"].text
    assert lock_changes(before, before) == []


def test_row_47_the_command_compares_with_a_git_revision(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    (tmp_path / "m.safetensors").write_bytes(MODEL)
    (tmp_path / "models.lock").write_text(lock_text(entry(source=GOOD_HF, upstream=GOOD_UPSTREAM)))
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    assert main(["lock", "check", "--since", "HEAD"]) == OK
    (tmp_path / "models.lock").write_text(lock_text(entry(source=GOOD_HF, recorded={"how": "trust-on-first-use"})))
    assert main(["lock", "check"]) == OK
    capsys.readouterr()
    assert main(["lock", "check", "--since", "HEAD"]) == DIFFERENT
    assert "the upstream was removed" in capsys.readouterr().out
    assert main(["lock", "check", "--since", "nowhere"]) == WRONG
    assert main(["lock", "check", "--since=--output=x"]) == WRONG
    assert not (tmp_path / "x").exists()
