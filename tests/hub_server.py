"""A small Hugging Face Hub for tests: repositories in memory, served with the endpoints that the Hub's client asks.

``python tests/hub_server.py FOLDER`` serves every ``FOLDER/owner/repo`` over plain HTTP until it is interrupted.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".onnx", ".onnx_data", ".bin", ".safetensors")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def commit_of(files: Mapping[str, bytes], label: str = "") -> str:
    listing = json.dumps({name: git_sha1(content) for name, content in files.items()}) + label
    return hashlib.sha1(listing.encode()).hexdigest()


@dataclass
class Repo:
    """``commits``: files of each commit. ``refs``: commits of branches, tags and pull requests."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def resolve(self, revision: str) -> str | None:
        if revision in self.refs:
            return self.refs[revision]
        # As the Hub does: what a commit begins with is found too.
        return next((commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)), None)


class HubServer:
    """``log``: method and path of every request. ``tampered``: what is served instead of contents, by SHA-256."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.tampered: dict[str, bytes] = {}
        self.log: list[str] = []
        self.address = ""

    def add(self, repo: str, files: Mapping[str, bytes], *refs: str, label: str = "") -> str:
        """A commit of ``files``, which the ``refs`` (else ``main``) name from now on."""
        commit = commit_of(files, label)
        kept = self.repos.setdefault(repo, Repo())
        kept.commits[commit] = dict(files)
        kept.refs |= dict.fromkeys(refs or ("main",), commit)
        return commit

    def requests(self, method: str = "") -> list[str]:
        return [line for line in self.log if line.startswith(method)]


class Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        address = urlsplit(self.path)
        self.hub.log.append(f"{self.command} {unquote(address.path)}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = address.path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self.api("/".join(parts[2:4]), [unquote(part) for part in parts[4:]], body)
        elif len(parts) >= 5 and parts[2] == "resolve":
            self.file("/".join(parts[:2]), unquote(parts[3]), "/".join(map(unquote, parts[4:])))
        else:
            self.send(404, {"error": "no such page"})

    def repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self.send(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return repo

    def commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.resolve(revision)
        if commit is None:
            self.send(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def api(self, name: str, rest: list[str], body: bytes) -> None:
        repo = self.repo(name)
        kind, revision = rest if len(rest) == 2 else ("revision", "main")
        commit = repo and self.commit(repo, revision)
        if not repo or not commit:
            return
        files = repo.commits[commit]
        if kind == "paths-info":
            wanted = parse_qs(body.decode())["paths"] if not body.startswith(b"{") else json.loads(body)["paths"]
            self.send(200, [entry(file, files[file]) for file in wanted if file in files])
        elif kind == "tree":
            self.send(200, [entry(file, content) for file, content in files.items()])
        else:
            siblings = [{"rfilename": file} for file in files]
            self.send(200, {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})

    def file(self, name: str, revision: str, file: str) -> None:
        repo = self.repo(name)
        if not repo:
            return
        if repo.gated:
            text = (
                f"Access to model {name} is restricted. You must have access to it and be authenticated to access it."
            )
            self.send(401, {"error": text}, {"X-Error-Code": "GatedRepo", "X-Error-Message": text})
            return
        commit = self.commit(repo, revision)
        if not commit:
            return
        content = repo.commits[commit].get(file)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self.send(404, {"error": "Entry not found"}, headers)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(content)}"'}
        if file.endswith(LFS_SUFFIXES):
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        self.send(200, self.hub.tampered.get(sha256, content), headers)

    def send(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream" if status == 200 else "application/json")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def entry(file: str, content: bytes) -> dict[str, Any]:
    """A file as the Hub lists it; one in LFS has the git hash of its pointer."""
    if not file.endswith(LFS_SUFFIXES):
        return {"type": "file", "path": file, "size": len(content), "oid": git_sha1(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
    lfs = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
    return {"type": "file", "path": file, "size": len(content), "oid": git_sha1(pointer), "lfs": lfs}


@contextmanager
def serving(hub: HubServer, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[HubServer]:
    """Serve ``hub`` on this machine; its ``address`` is known from then on."""
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    # A certificate is for a name; a bare address would be reported.
    hub.address = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """The server's side of TLS, and the file of certificates that a client must trust (SSL_CERT_FILE)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a Hub for tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / "hub.pem", folder / "hub.key"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted


def client_environment(address: str, home: Path, trusted: Path | None = None) -> dict[str, str]:
    """What a process must have in its environment before it imports the Hub's client. Proxies must be unset too."""
    environment = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0",
    }
    return environment | ({"SSL_CERT_FILE": str(trusted)} if trusted else {})


def main(folder: Path) -> None:
    hub = HubServer()
    for repo in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        files = {path.relative_to(repo).as_posix(): path.read_bytes() for path in repo.rglob("*") if path.is_file()}
        print(repo.relative_to(folder).as_posix(), hub.add(repo.relative_to(folder).as_posix(), files))
    with serving(hub):
        print(f"HF_ENDPOINT={hub.address}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
