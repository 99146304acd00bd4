from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import git_sha1

from pytest_backdoor.checks.provenance._digests import content_digests
from pytest_backdoor.checks.provenance._hub import hub_problems
from pytest_backdoor.models.hub import HubFile, HubName, Origin, Upstream, parse_hub_name
from pytest_backdoor.models.hub._cache import recorded_upstream

COMMIT, SHA256, SHA1 = "0123456789" * 4, "ab" * 32, "cd" * 20


@pytest.mark.parametrize(
    ("name", "repo", "revision", "file"),
    [
        ("hf://o/r/m.onnx", "o/r", None, "m.onnx"),
        ("hf://o/r@v1/a/b/m.onnx", "o/r", "v1", "a/b/m.onnx"),
        (f"hf://o/r@{COMMIT}/m.onnx", "o/r", COMMIT, "m.onnx"),
        ("hf://o/r@refs/pr/12/a/m.onnx", "o/r", "refs/pr/12", "a/m.onnx"),
        ("hf://o/r@refs/convert/onnx/m.onnx", "o/r", "refs/convert/onnx", "m.onnx"),
        ("hf://o/r@feature%2Fx/m.onnx", "o/r", "feature/x", "m.onnx"),
        ("hf://o/r/a@b/m.onnx", "o/r", None, "a@b/m.onnx"),
    ],
)
def test_names(name, repo, revision, file):
    parsed = parse_hub_name(name)
    assert parsed == HubName(repo=repo, revision=revision, file=file)
    assert str(parsed) == name
    assert parsed.pinned is (revision == COMMIT)


@pytest.mark.parametrize(
    "name",
    [
        "hf://o/r",
        "hf://o/r@v1",
        "hf://r@v1/",
        "hf://o/r@/m.onnx",
        "hf://o/r@v1/../m.onnx",
        "hf://o/../m.onnx",
        "hf://o/r@v1/a//m.onnx",
        "hf://o/r@v1/a\\m.onnx",
        "hf://o/r@v1/m\n.onnx",
        "hf://o/r@%2E%2E/m.onnx",
        "hf://o/r@a%2F..%2F..%2Fb/m.onnx",
        "hf://o/r@a%00/m.onnx",
        "hf://о/r/m.onnx",  # a Cyrillic letter
    ],
)
def test_row_31_names_that_lead_elsewhere(name):
    assert parse_hub_name(name) is None


@pytest.mark.parametrize("revision", [COMMIT[:-1], COMMIT[:-1] + "A", COMMIT + "0", COMMIT + "\n", "４" * 40])
def test_row_27_not_a_whole_commit(revision):
    assert not HubName(repo="o/r", file="m.onnx", revision=revision).pinned


# What the cache records


@pytest.fixture
def cached(tmp_path) -> Path:
    """A file in the cache of the Hub's client; its blob is a link into the shared store."""
    repository = tmp_path / "models--o--r"
    snapshot, blobs = repository / "snapshots" / COMMIT / "a", repository / "blobs"
    for folder in (snapshot, blobs, repository / "trees", tmp_path / "blobs" / "ef"):
        folder.mkdir(parents=True)
    (tmp_path / "blobs" / "ef" / ("ef" * 32)).write_bytes(b"content")
    (blobs / SHA256).symlink_to(f"../../blobs/ef/{'ef' * 32}")
    (snapshot / "m.onnx").symlink_to(f"../../../blobs/{SHA256}")
    return snapshot / "m.onnx"


def test_row_34_one_hop_to_the_blob(cached):
    assert cached.resolve().name == "ef" * 32  # what looks like a SHA-256 and is none
    recorded = recorded_upstream(cached, "a/m.onnx")
    assert recorded == Upstream(commit=COMMIT, alg="sha256", value=SHA256, origin=Origin.CACHE_BLOB)


@pytest.mark.parametrize("target", ["../../../blobs/short", f"../../../../elsewhere/{SHA256}", f"{SHA256}"])
def test_a_link_to_no_blob_records_nothing(cached, target):
    cached.unlink()
    cached.symlink_to(target)
    assert recorded_upstream(cached, "a/m.onnx") is None


def test_a_copy_records_nothing(cached):
    cached.unlink()
    cached.write_bytes(b"content")
    assert recorded_upstream(cached, "a/m.onnx") is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"blob_id": SHA1, "lfs_sha256": "12" * 32}, ("sha256", "12" * 32)),
        ({"blob_id": SHA1}, ("git-blob-sha1", SHA1)),
        ({"blob_id": SHA1, "lfs_sha256": "12"}, ("sha256", SHA256)),  # the blob's name instead
        (None, ("sha256", SHA256)),
    ],
)
def test_listing_of_the_commit(cached, entry, expected):
    tree = cached.parents[3] / "trees" / f"{COMMIT}.json"
    tree.write_text(json.dumps({"format_version": 1, "files": {"a/m.onnx": entry}}))
    recorded = recorded_upstream(cached, "a/m.onnx")
    assert (recorded.alg, recorded.value) == expected


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"files": []}', "{" * 9], ids=lambda text: text[:10])
def test_damaged_listing(cached, text):
    (cached.parents[3] / "trees" / f"{COMMIT}.json").write_text(text)
    assert recorded_upstream(cached, "a/m.onnx").origin is Origin.CACHE_BLOB


# What is wrong with a file


def hub_file(**values) -> HubFile:
    upstream = Upstream(commit=COMMIT, alg="sha256", value=SHA256)
    defaults = {"path": Path("m.onnx"), "repo": "o/r", "file": "m.onnx", "requested": COMMIT, "commit": COMMIT}
    return HubFile(**{**defaults, "upstream": upstream, "endpoint": "https://huggingface.co", **values})


def rules(file: HubFile, found: str = SHA256, **options) -> dict[str, bool]:
    digests = {each.file: lambda alg: found for each in file.files()}
    return {problem.rule: problem.fails for problem in hub_problems(file, digests, display="hf://m", **options)}


def test_good_file():
    assert rules(hub_file()) == {}


@pytest.mark.parametrize("origin", list(Origin))
def test_row_18_other_content(origin):
    file = hub_file(upstream=Upstream(commit=COMMIT, alg="sha256", value="12" * 32, origin=origin))
    (problem,) = hub_problems(file, {"m.onnx": lambda alg: SHA256}, display="hf://m")
    assert (problem.rule, problem.fails) == ("hash-mismatch", True)
    assert ("the cache's own record" in problem.message) is (origin is not Origin.HUB)


def test_row_23_a_digest_is_compared_with_its_own_algorithm():
    content = b"content"
    digests = {"m.onnx": content_digests(content)}
    file = hub_file(upstream=Upstream(commit=COMMIT, alg="git-blob-sha1", value=git_sha1(content)))
    (weak,) = hub_problems(file, digests, display="hf://m")
    assert (weak.rule, weak.fails) == ("weak-or-short-hash", False)
    other = hub_file(upstream=Upstream(commit=COMMIT, alg="git-blob-sha1", value=hashlib.sha1(content).hexdigest()))
    assert [problem.rule for problem in hub_problems(other, digests, display="hf://m") if problem.fails] == [
        "hash-mismatch"
    ]


def test_no_hash_known():
    assert rules(hub_file(upstream=None)) == {"no-hash-listed": False}


def test_external_data_are_compared_too():
    file = hub_file(external=(hub_file(file="m.onnx_data"),))
    digests = {"m.onnx": lambda alg: SHA256, "m.onnx_data": lambda alg: "12" * 32}
    (problem,) = hub_problems(file, digests, display="hf://m")
    assert problem.rule == "hash-mismatch"
    assert "m.onnx_data" in problem.message


@pytest.mark.parametrize(
    ("endpoint", "private", "reported"),
    [
        ("http://mirror.example", True, True),
        ("http://127.0.0.1:80", False, True),
        ("http://127.0.0.1:80", True, False),
        ("http://localhost:80", True, False),
        ("http://[::1]:80", True, False),
        ("http://127.0.0.1.example", True, True),
        ("ftp://mirror.example", False, True),
        ("HTTPS://huggingface.co", False, False),
    ],
)
def test_row_26_endpoint_without_protection(endpoint, private, reported):
    assert ("plain-http" in rules(hub_file(endpoint=endpoint), local_server=private)) is reported


def test_to_another_process_and_back():
    file = hub_file(external=(hub_file(file="m.onnx_data", upstream=None),))
    assert HubFile.from_json(json.loads(json.dumps(file.to_json()))) == file
    assert HubFile.from_json(json.loads(json.dumps(replace(file, commit=None).to_json()))).commit is None
    assert os.fspath(file.path) == "m.onnx"
