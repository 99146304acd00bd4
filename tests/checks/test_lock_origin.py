"""Recording where a model is from: what the Hub states, what a person typed, and what an update keeps."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from corpus.locks import BLOB, COMMIT, MODEL, OTHER, SHA1, SHA256
from onnx import TensorProto, helper

from pytest_backdoor.checks.provenance._lockfile import Artifact, read_lock
from pytest_backdoor.checks.provenance._upstream import Upstream, resolve_upstream
from pytest_backdoor.cli import DIFFERENT, OK, WRONG, main
from pytest_backdoor.errors import LockError

NEWER = COMMIT[::-1]
HUB = "hf://org/name@main/m.safetensors"


@dataclass
class Hub:
    """What a made-up Hub states: commits of revisions, and files of commits."""

    revisions: dict[str, object] = field(default_factory=lambda: {"main": COMMIT, COMMIT: COMMIT})
    files: dict[str, dict[str, dict[str, object]]] = field(default_factory=dict)
    requests: int = 0

    def put(self, name: str, content: bytes, *, commit: str = COMMIT, lfs: bool = True) -> None:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": blob}
        if lfs:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
        self.files.setdefault(commit, {})[name] = entry


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            revision = self.path.partition("/revision/")[2].partition("?")[0]
            sha = hub.revisions.get(revision)
            self.answer({"id": "org/name", "sha": sha, "siblings": []} if sha is not None else None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            commit = self.path.partition("/paths-info/")[2].partition("?")[0]
            files = hub.files.get(commit, {})
            self.answer([entry for name, entry in files.items() if name in body.replace("%2F", "/")])

        def answer(self, value: object) -> None:
            hub.requests += 1
            content = json.dumps(value).encode()
            self.send_response(404 if value is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    content = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(content))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    yield content
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "m.safetensors").write_bytes(MODEL)
    # The made-up Hub has no TLS; nothing but the project's own policy lets a command talk to it.
    (tmp_path / "models.lock").write_text('lock-version = "1"\n[policy]\nallow-http = true\n')
    return tmp_path


def stored(project: Path, path: str = "m.safetensors") -> Artifact:
    artifact = read_lock(project / "models.lock").find(path)
    assert artifact is not None
    return artifact


def add(*arguments: str) -> int:
    return main(["lock", "add", "m.safetensors", *arguments])


def update(*arguments: str) -> int:
    return main(["lock", "update", "m.safetensors", *arguments])


def test_a_revision_of_the_hub_becomes_a_commit_and_its_hash_is_kept(hub, project, capsys):
    hub.put("m.safetensors", MODEL)
    assert add("--from", HUB) == OK
    claims = stored(project).claims
    assert claims["source"] == {
        "type": "hf",
        "repo": "org/name",
        "file": "m.safetensors",
        "revision": COMMIT,
        "requested": "main",
    }
    assert claims["upstream"] == {"alg": "sha256", "value": SHA256, "from": "hf-lfs"}
    assert stored(project).recorded_how == "upstream-match"
    requests = hub.requests
    assert main(["lock", "check"]) == OK
    assert hub.requests == requests  # offline


def test_row_24_a_small_file_of_the_hub_has_a_git_hash_only(hub, project, capsys):
    hub.put("m.safetensors", MODEL, lfs=False)
    assert add("--from", HUB) == OK
    assert stored(project).claims["upstream"] == {"alg": "git-blob-sha1", "value": BLOB, "from": "hf-git-blob"}
    assert "weak-or-short-hash" in capsys.readouterr().out
    assert main(["lock", "check"]) == DIFFERENT
    allow = ["--allow", "weak-or-short-hash", "--reason", "small file", "--until", "2999-01-01"]
    assert update(*allow) == OK
    assert main(["lock", "check"]) == OK


def test_row_18_a_file_that_is_not_the_hub_s_is_refused(hub, project, capsys):
    hub.put("m.safetensors", OTHER)
    before = (project / "models.lock").read_bytes()
    assert add("--from", HUB) == WRONG
    assert "is not the file that the Hub has" in capsys.readouterr().err
    assert add("--from", HUB, "--trust-on-first-use") == WRONG
    assert (project / "models.lock").read_bytes() == before


def test_a_typed_sha256_says_more_than_git_s_hash(hub, project):
    hub.put("m.safetensors", MODEL, lfs=False)
    assert add("--from", HUB, "--published-hash", f"sha256:{SHA256}") == OK
    assert stored(project).claims["upstream"]["from"] == "publisher"
    assert stored(project).claims["source"]["revision"] == COMMIT
    assert main(["lock", "check"]) == OK


@pytest.mark.parametrize("name", ["hf://org/name@gone/m.safetensors", "hf://org/name@main/other.safetensors"])
def test_what_the_hub_does_not_have_is_refused(hub, project, capsys, name):
    hub.put("m.safetensors", MODEL)
    assert add("--from", name) == WRONG
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("revisions", "oid"),
    [
        ({"main": "main"}, None),
        ({"main": COMMIT.upper()}, None),
        ({"main": COMMIT[:12]}, None),
        ({COMMIT: NEWER}, None),
        ({}, "0" * 63),
        ({}, SHA256 + "\n"),
        ({}, "１" * 64),
    ],
)
def test_row_27_answers_that_are_no_commit_or_hash_are_refused(hub, revisions, oid):
    hub.put("m.safetensors", MODEL)
    hub.put("m.safetensors", MODEL, commit=NEWER)
    hub.revisions |= revisions
    if oid:
        hub.files[COMMIT]["m.safetensors"]["lfs"]["oid"] = oid
    with pytest.raises(LockError, match="answer"):
        resolve_upstream("org/name", "m.safetensors", next(iter(revisions), "main"), allow_http=True)


def test_row_26_a_hub_without_tls_is_not_asked(hub):
    hub.put("m.safetensors", MODEL)
    with pytest.raises(LockError, match="HF_ENDPOINT"):
        resolve_upstream("org/name", "m.safetensors", "main")
    assert hub.requests == 0
    found = resolve_upstream("org/name", "m.safetensors", "main", allow_http=True)
    assert found == Upstream(COMMIT, "sha256", SHA256)


def test_a_pinned_file_may_be_trusted_without_the_hub(hub, project):
    assert add("--from", f"hf://org/name@{COMMIT}/m.safetensors", "--trust-on-first-use") == OK
    assert hub.requests == 0
    assert stored(project).recorded_how == "trust-on-first-use"
    assert main(["lock", "check"]) == OK


def test_external_data_are_compared_with_the_hub_too(hub, project, capsys):
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="m.bin")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    (project / "models").mkdir()
    (project / "models" / "m.onnx").write_bytes(model)
    (project / "models" / "m.bin").write_bytes(b"1234")
    hub.put("onnx/m.onnx", model)
    hub.put("onnx/m.bin", b"1235")
    command = ["lock", "add", "models/m.onnx", "--from", "hf://org/name@main/onnx/m.onnx"]
    assert main(command) == WRONG
    assert "models/m.bin is not the file" in capsys.readouterr().err
    hub.put("onnx/m.bin", b"1234")
    assert main(command) == OK
    assert main(["lock", "check", "--online"]) == OK
    hub.put("onnx/m.bin", b"1235")
    assert main(["lock", "check", "--online"]) == DIFFERENT


def test_checking_online(hub, project, capsys):
    hub.put("m.safetensors", MODEL)
    add("--from", HUB)
    assert main(["lock", "check", "--online"]) == OK
    hub.revisions["main"] = NEWER
    hub.put("m.safetensors", OTHER, commit=NEWER)
    capsys.readouterr()
    assert main(["lock", "check", "--online"]) == OK
    assert f"'main' of org/name is commit {NEWER} today" in capsys.readouterr().out
    del hub.revisions[COMMIT]
    assert main(["lock", "check", "--online"]) == DIFFERENT
    assert "gave no answer" in capsys.readouterr().out
    hub.revisions[COMMIT] = COMMIT
    hub.put("m.safetensors", OTHER)
    assert main(["lock", "check", "--online"]) == DIFFERENT


def test_checking_online_what_is_not_from_the_hub_is_not_success(project, capsys):
    add()
    assert main(["lock", "check", "--online"]) == WRONG
    assert "compared nothing" in capsys.readouterr().err


def test_an_update_follows_the_hub(hub, project, capsys):
    hub.put("m.safetensors", MODEL)
    add("--from", HUB)
    hub.revisions["main"] = NEWER
    hub.put("m.safetensors", OTHER, commit=NEWER)
    assert update() == WRONG  # the file here is still the old one
    (project / "m.safetensors").write_bytes(OTHER)
    capsys.readouterr()
    assert update() == OK
    output = capsys.readouterr().out
    assert f"{SHA256} → {hashlib.sha256(OTHER).hexdigest()}" in output
    assert f"commit: {COMMIT} → {NEWER}" in output
    assert stored(project).claims["source"]["requested"] == "main"
    assert update() == OK
    assert "nothing changed" in capsys.readouterr().out


def test_an_update_of_what_is_not_listed(project, capsys):
    assert update() == WRONG
    assert "lock add" in capsys.readouterr().err


def test_a_url_needs_a_hash_or_trust(project, capsys):
    source = ["--from", "https://h.example/m"]
    assert add(*source) == WRONG
    assert "--trust-on-first-use" in capsys.readouterr().err
    assert add(*source, "--published-hash", SHA256) == WRONG
    assert "does not name the algorithm" in capsys.readouterr().err
    assert add(*source, "--published-hash", f"sha256:{SHA256[::-1]}") == WRONG
    assert "does not have the published sha256" in capsys.readouterr().err
    assert add(*source, "--published-hash", f"crc32:{SHA256}") == WRONG
    assert add(*source, "--published-hash", f"sha256:{SHA256.upper()}") == OK
    assert stored(project).claims["upstream"] == {"alg": "sha256", "value": SHA256, "from": "publisher"}
    assert main(["lock", "check"]) == OK


def test_an_update_drops_no_hash_silently(project, capsys):
    add("--from", "https://h.example/m", "--published-hash", f"sha256:{SHA256}")
    assert update() == OK
    assert stored(project).recorded_how == "upstream-match"
    (project / "m.safetensors").write_bytes(OTHER)
    assert update() == WRONG
    assert "Nobody published a hash" in capsys.readouterr().err
    assert update("--trust-on-first-use") == OK
    assert stored(project).claims["source"] == {"type": "url", "url": "https://h.example/m"}
    assert "upstream" not in stored(project).claims


def test_torch_hub_s_hash_is_read_from_the_name(project, capsys):
    assert add("--from", "torch-hub:https://h.example/m.pth") == WRONG
    assert add("--from", "torch-hub:https://h.example/m-deadbeef.pth") == WRONG
    assert "sha256-prefix deadbeef" in capsys.readouterr().err
    assert add("--from", f"torch-hub:https://h.example/m-{SHA256[:8]}.pth") == OK
    assert stored(project).claims["upstream"]["from"] == "filename-prefix"


@pytest.mark.parametrize("source", ["hf://org", "m", "file:///m", "https://me:pw@h.example/m", "https://h.example/m\n"])
def test_what_is_no_source_is_refused(source, capsys):
    assert add("--from", source, "--trust-on-first-use") == WRONG
    assert capsys.readouterr().err.count("\n") == 1


def test_signatures_are_recorded_and_survive_an_update(project, capsys):
    (project / "key.pub").write_text("a key")
    given = ["--signature", "method=key", "--signature", "bundle=m.sig", "--signature", "key=key.pub"]
    assert add("--from", "https://h.example/m", *given) == OK
    expected = {
        "method": "key",
        "bundle": "m.sig",
        "key": "key.pub",
        "key-sha256": hashlib.sha256(b"a key").hexdigest(),
    }
    assert stored(project).claims["signature"] == expected
    assert stored(project).recorded_how == "signature"
    (project / "m.safetensors").write_bytes(OTHER)
    assert update() == OK
    assert stored(project).claims["signature"] == expected


@pytest.mark.parametrize(
    "given",
    [
        ["method=key"],
        ["method"],
        ["method=pgp", "bundle=b"],
        ["method=key", "bundle=b", "key=k", "key=k"],
        ["method=sigstore", "bundle=b", "identity=me"],
        ["method=key", "bundle=../b", "key=k"],
    ],
)
def test_signatures_that_are_not_whole_are_refused(project, given):
    assert add(*(part for value in given for part in ("--signature", value))) == WRONG


def test_a_certificate_chain_keeps_its_order(project):
    given = ["method=certificate", "bundle=b", "chain=leaf.pem", "chain=ca.pem"]
    assert add(*(part for value in given for part in ("--signature", value))) == OK
    assert stored(project).claims["signature"]["chain"] == ["leaf.pem", "ca.pem"]


@pytest.mark.parametrize(
    "given",
    [
        ["--allow", "plain-http"],
        ["--allow", "plain-http", "--reason", "r"],
        ["--allow", "hash-mismatch", "--reason", "r", "--until", "2999-01-01"],
        ["--allow", "plain-http", "--reason", "r", "--until", "soon"],
        ["--reason", "r", "--until", "2999-01-01"],
    ],
)
def test_exceptions_need_a_reason_and_a_date(given):
    assert add(*given) == WRONG


def test_one_source_is_of_one_file(project, capsys):
    (project / "n.safetensors").write_bytes(OTHER)
    assert add("n.safetensors", "--from", "https://h.example/m", "--trust-on-first-use") == WRONG
    assert "one PATH" in capsys.readouterr().err


def test_a_source_is_added_to_a_plain_entry_but_never_replaced(project, capsys):
    assert add() == OK
    assert add("--from", "https://h.example/m", "--published-hash", f"sha1:{SHA1}") == OK
    assert add("--from", "https://h.example/n", "--published-hash", f"sha1:{SHA1}") == WRONG
    assert "lock update" in capsys.readouterr().err
    capsys.readouterr()
    assert main(["lock", "list"]) == OK
    assert "from type url, url https://h.example/m" in capsys.readouterr().out
