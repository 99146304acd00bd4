"""Models of the Hub: is the content the one that it lists, and is it clear which one is meant?"""

from __future__ import annotations

import hashlib
import os
import shutil

import onnx
import pytest
from conftest import clean_weights, model_bytes
from hub_server import serving

REPO, FILE = "owner/repo", "onnx/model.onnx"
MODEL = model_bytes(clean_weights())
# Of the same size: the only thing that the Hub's client compares.
TAMPERED = MODEL[:-1] + bytes([MODEL[-1] ^ 1])


def rules(finding, *, blocking=True):
    return {problem["rule"] for problem in finding["problems"] if problem["fails"] is blocking}


@pytest.fixture
def commit(online):
    return online.server.add(
        REPO, {FILE: MODEL, "small.pt": MODEL, "README.md": b"A model."}, "main", "v1", "refs/pr/1"
    )


@pytest.fixture
def pinned(commit):
    return f"hf://{REPO}@{commit}/{FILE}"


def tamper(online):
    """Exchange the only blob of the cache."""
    (blob,) = online.blobs()
    blob.write_bytes(TAMPERED)


def test_good_pinned_file(online, pinned):
    finding = online.finding(pinned)
    assert (finding["outcome"], rules(finding)) == ("not_assessed", set())  # no lock file yet
    added = online.lock("add", pinned)
    assert added.returncode == 0, added.stderr
    finding = online.finding(pinned)
    assert (finding["outcome"], finding["problems"]) == ("passed", [])
    assert online.lock("check").returncode == 0


def test_row_18_tampered_on_the_way(online, pinned):
    online.server.tampered[hashlib.sha256(MODEL).hexdigest()] = TAMPERED
    finding = online.finding(pinned)
    assert (finding["outcome"], rules(finding)) == ("failed", {"hash-mismatch"})
    assert "which the Hub lists at commit" in finding["summary"]


def test_row_18_tampered_in_the_cache(online, pinned):
    online.fetch(pinned)
    tamper(online)
    online.server.log.clear()
    finding = online.finding(pinned)
    assert (finding["outcome"], rules(finding)) == ("failed", {"hash-mismatch"})
    # The client itself is satisfied with the file that it has: the only question is ours.
    assert {line.split("/")[0] for line in online.server.log} == {"POST "}


def test_row_18_tampered_in_the_cache_without_any_request(online, pinned, monkeypatch):
    online.fetch(pinned)
    tamper(online)
    online.server.log.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    finding = online.finding(pinned)
    assert (finding["outcome"], rules(finding)) == ("failed", {"hash-mismatch"})
    assert "the cache's own record" in finding["summary"]
    assert online.server.log == []


@pytest.mark.parametrize("revision", [None, "main", "v1", "short", "upper", "refs/pr/1"])
def test_row_27_unpinned_revision(online, commit, revision):
    if revision == "upper":
        online.server.repos[REPO].refs[commit.upper()] = commit
    written = {None: "", "short": f"@{commit[:8]}", "upper": f"@{commit.upper()}"}.get(revision, f"@{revision}")
    finding = online.finding(f"hf://{REPO}{written}/{FILE}")
    assert (finding["outcome"], rules(finding)) == ("failed", {"unpinned-revision"})
    assert f"hf://{REPO}@{commit}/{FILE}" in finding["problems"][0]["remedy"]


def test_branch_that_moved(online, commit):
    name = f"hf://{REPO}@main/{FILE}"
    online.fetch(name)
    later = online.server.add(REPO, {FILE: TAMPERED})
    (problem,) = online.finding(name)["problems"]
    assert later in problem["remedy"]


def test_file_that_is_not_in_lfs(online, commit):
    finding = online.finding(f"hf://{REPO}@{commit}/small.pt")
    assert finding["outcome"] == "not_assessed"
    assert rules(finding) == set()
    assert rules(finding, blocking=False) == {"weak-or-short-hash", "no-hash-listed"}
    tamper(online)
    finding = online.finding(f"hf://{REPO}@{commit}/small.pt")
    assert rules(finding) == {"hash-mismatch"}
    assert "git SHA-1" in finding["summary"]


def test_plain_http(online, commit, pinned, monkeypatch):
    with serving(online.server):
        monkeypatch.setenv("HF_ENDPOINT", online.server.address)
        finding = online.finding(pinned)
    assert (finding["outcome"], rules(finding)) == ("failed", {"plain-http"})


# External data


@pytest.fixture
def with_data(online, tmp_path):
    """A model whose weights lie in a second file of the repository."""
    model = onnx.load_from_string(MODEL)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    files = {f"onnx/{name}": (tmp_path / name).read_bytes() for name in ("model.onnx", "model.onnx_data")}
    return f"hf://{REPO}@{online.server.add(REPO, files)}/{FILE}"


def share_blobs(online):
    """Put every blob where newer clients keep them: one store for all repositories, with names of another hash."""
    for number, blob in enumerate(online.blobs()):
        store = online.cache / "blobs" / "ab" / ("ab" + f"{number:062x}")
        store.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(blob, store)
        blob.symlink_to(os.path.relpath(store, blob.parent))


@pytest.mark.parametrize("layout", ["links", "shared store"])
@pytest.mark.parametrize("offline", ["0", "1"], ids=["online", "offline"])
def test_row_34_external_data_behind_links(online, with_data, layout, offline, monkeypatch):
    online.fetch(with_data)
    assert online.lock("add", with_data).returncode == 0
    if layout == "shared store":
        share_blobs(online)
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    finding = online.finding(with_data)
    assert (finding["outcome"], finding["problems"]) == ("passed", [])
    assert len(finding["evidence"]["files"]) == 2
    assert all(blob.is_symlink() is (layout == "shared store") for blob in online.blobs())


@pytest.mark.parametrize("layout", ["links", "shared store"])
def test_row_18_tampered_external_data(online, with_data, layout, monkeypatch):
    online.fetch(with_data)
    data = next(online.cache.glob("models--*/snapshots/*/onnx/model.onnx_data")).resolve()
    data.write_bytes(bytes(len(data.read_bytes())))
    if layout == "shared store":
        share_blobs(online)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    finding = online.finding(with_data)
    assert (finding["outcome"], rules(finding)) == ("failed", {"hash-mismatch"})
    assert "onnx/model.onnx_data" in finding["problems"][0]["path"]


def test_external_data_that_the_repository_lacks(online, with_data):
    commit = with_data.split("@")[1].split("/")[0]
    del online.server.repos[REPO].commits[commit]["onnx/model.onnx_data"]
    finding = online.finding(with_data)
    assert finding["outcome"] != "passed"
    assert [file["status"] for file in finding["evidence"]["files"][1:]] == ["missing"]


def test_a_scan_opens_a_model_with_external_data(online, with_data):
    online.project.scan_apart(with_data, "--backdoor-checks=litmus", "--backdoor-report=report.json")
    assert online.project.findings()[f"{with_data}::litmus"]["outcome"] == "passed"
