"""Models of the Hub that cannot be had: every run ends with a sentence and a remedy, and none is green."""

from __future__ import annotations

import pytest
from conftest import clean_weights, model_bytes

REPO, FILE = "owner/repo", "model.onnx"


@pytest.fixture
def commit(online):
    return online.server.add(REPO, {FILE: model_bytes(clean_weights())}, "main")


def refused(online, name):
    """What a run says that scans nothing."""
    result = online.scan(name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return result.stderr.str()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"hf://{REPO}@main/none.onnx", "owner/repo has no such file at main. Check its name."),
        (f"hf://{REPO}@none/{FILE}", "owner/repo has no revision none."),
        (f"hf://owner/none@main/{FILE}", "there is no repository owner/none or it is private."),
        (f"hf://owner/{FILE}", "is not of the form hf://owner/repo@revision/file."),
        (f"hf://{REPO}@main/../{FILE}", "is not of the form hf://owner/repo@revision/file."),
        (f"hf://{REPO}@%2E%2E%2Fmain/{FILE}", "is not of the form hf://owner/repo@revision/file."),
    ],
)
def test_wrong_name(online, commit, name, expected):
    assert expected in refused(online, name)


def test_gated(online, commit):
    online.server.repos[REPO].gated = True
    message = refused(online, f"hf://{REPO}@{commit}/{FILE}")
    assert "access to owner/repo must be granted" in message
    assert "hf auth login" in message


def test_offline_and_not_cached(online, commit, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused(online, f"hf://{REPO}@{commit}/{FILE}")
    assert "HF_HUB_OFFLINE is set, and it is not in the local cache" in message
    assert f"hf download {REPO} {FILE} --revision {commit}" in message
    assert online.server.log == []


@pytest.mark.slow  # the client tries again for half a minute
def test_unreachable_and_not_cached(online, commit, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://localhost:9")
    assert "https://localhost:9 cannot be reached" in refused(online, f"hf://{REPO}@{commit}/{FILE}")


def test_unreachable_but_cached(online, commit, monkeypatch):
    name = f"hf://{REPO}@{commit}/{FILE}"
    online.fetch(name)
    online.lock("add", name)
    monkeypatch.setenv("HF_ENDPOINT", "https://localhost:9")
    assert online.finding(name)["outcome"] == "passed"


def test_a_hub_that_gives_another_commit(online, commit):
    other = "0" * 40
    online.server.repos[REPO].refs[other] = commit
    assert f"gave commit {commit}" in refused(online, f"hf://{REPO}@{other}/{FILE}")


def test_two_names_of_one_file(online, commit):
    result = online.project.scan_apart(f"hf://{REPO}@main/{FILE}", f"hf://{REPO}@{commit}/{FILE}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "are the same file at present" in result.stderr.str()
