"""Projects whose lock file says something about a model that must not be believed; the model itself is harmless."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from . import Case

MODEL = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "  # a safetensors file without tensors
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = hashlib.sha256(MODEL).hexdigest()
SHA1, MD5 = hashlib.sha1(MODEL).hexdigest(), hashlib.md5(MODEL).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(MODEL) + MODEL).hexdigest()
GOOD_HF = {"type": "hf", "repo": "org/name", "file": "m.safetensors", "revision": COMMIT}
KERAS_MD5 = {"type": "keras", "url": "https://h.example/m", "file_hash": MD5, "alg": "md5"}
GOOD_UPSTREAM = {"alg": "sha256", "value": SHA256, "from": "hf-lfs"}


def inline(value: object) -> str:
    """A value as TOML in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def entry(path: str = "m.safetensors", content: bytes = MODEL, **claims: object) -> str:
    """One entry of a lock file, of a model with this content."""
    own = {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "format": "safetensors"}
    return "[[artifact]]\n" + "".join(f"{key} = {inline(value)}\n" for key, value in (own | claims).items())


def lock_text(*entries: str, policy: str = "") -> str:
    """A whole lock file."""
    return "\n".join(['lock-version = "1"', policy, *entries])


def project(*entries: str, content: bytes = MODEL, path: str = "m.safetensors") -> Callable[[Path, Path], Path]:
    """A writer of a folder with one model and a lock file with these entries."""

    def write(folder: Path, canary: Path) -> Path:
        model = folder / path
        model.parent.mkdir(parents=True, exist_ok=True)
        model.write_bytes(content)
        (folder / "models.lock").write_text(lock_text(*entries), encoding="utf-8")
        return model

    return write


def case(row: int, name: str, rule: str, *entries: str, content: bytes = MODEL) -> Case:
    return Case(row=row, name=name, write=project(*entries, content=content), rules=frozenset({rule}))


def one(row: int, name: str, rule: str, **claims: object) -> Case:
    """A case whose lock file has one entry with these claims."""
    return case(row, name, rule, entry(**claims))


def url(address: str, kind: str = "url", **more: str) -> dict[str, str]:
    return {"type": kind, "url": address} | more


def torch_hub(name: str, **more: str) -> dict[str, str]:
    return url(f"https://download.example/models/{name}", "torch-hub", **more)


def upstream(alg: str, value: str, came_from: str = "publisher") -> dict[str, str]:
    return {"alg": alg, "value": value, "from": came_from}


def prefix(digits: int) -> dict[str, str]:
    return upstream("sha256-prefix", SHA256[:digits])


def unpinned(name: str, source: dict[str, str]) -> Case:
    return one(27, name, "unpinned-revision", source=source, upstream=GOOD_UPSTREAM)


def plain(name: str, address: str) -> Case:
    return one(26, name, "plain-http", source=url(address), upstream=GOOD_UPSTREAM)


OTHER = MODEL.replace(b"{}      ", b"{ }     ")
EXPIRED = {
    "source": GOOD_HF,
    "upstream": upstream("sha1", SHA1),
    "allow": [{"rule": "weak-or-short-hash", "reason": "sha1 only", "until": "2026-01-31"}],
}

CASES: tuple[Case, ...] = (
    case(18, "same-size-tampered", "hash-mismatch", entry(source=GOOD_HF, upstream=GOOD_UPSTREAM), content=OTHER),
    case(
        18,
        "tampered-together-with-its-entry",  # who changes the lock file too cannot change what was published
        "hash-mismatch",
        entry(content=OTHER, source=GOOD_HF, upstream=GOOD_UPSTREAM),
        content=OTHER,
    ),
    case(18, "tampered-torch-hub", "hash-mismatch", entry(source=torch_hub(f"m-{SHA256[:8]}.pth")), content=OTHER),
    one(19, "no-hash-in-name", "no-hash-listed", source=torch_hub("m.pth")),
    one(19, "empty-hash-in-name", "no-hash-listed", source=torch_hub("m-.pth")),
    one(19, "one-digit", "no-hash-listed", source=torch_hub(f"m-{SHA256[0]}.pth")),
    one(19, "underscore", "weak-or-short-hash", source=torch_hub(f"m_fbgemm_{SHA256[:8]}.pth")),
    one(19, "override", "no-hash-listed", source=torch_hub(f"m-{SHA256[:8]}.pth", **{"file-name": "m.pth"})),
    one(19, "another-place", "no-hash-listed", source=torch_hub(f"m-.x-{SHA256[:8]}.pth")),
    one(19, "short-upstream", "no-hash-listed", source=torch_hub("m.pth"), upstream=prefix(7)),
    one(19, "eight-digits", "weak-or-short-hash", source=torch_hub(f"m-{SHA256[:8]}.pth")),
    one(19, "63-digits", "weak-or-short-hash", source=torch_hub("m.pth"), upstream=prefix(63)),
    one(20, "number-in-name", "no-hash-listed", source=torch_hub("wide-50.pth")),
    one(23, "blob-as-sha1", "hash-mismatch", source=GOOD_HF, upstream=upstream("sha1", BLOB)),
    one(23, "sha1-as-blob", "hash-mismatch", source=GOOD_HF, upstream=upstream("git-blob-sha1", SHA1)),
    one(23, "keras-md5-as-md5", "weak-or-short-hash", source=KERAS_MD5),
    one(24, "md5", "weak-or-short-hash", source=url("https://h.example/m"), upstream=upstream("md5", MD5)),
    one(24, "sha1", "weak-or-short-hash", source=url("https://h.example/m"), upstream=upstream("sha1", SHA1)),
    one(24, "git-blob", "weak-or-short-hash", source=GOOD_HF, upstream=upstream("git-blob-sha1", BLOB, "hf-git-blob")),
    one(24, "dvc", "weak-or-short-hash", source={"type": "dvc", "file": "m.dvc"}, upstream=upstream("md5", MD5, "dvc")),
    one(24, "caffe", "weak-or-short-hash", source={"type": "caffe", "readme": "readme.md", "sha1": SHA1}),
    plain("http", "http://h.example/m.safetensors"),
    plain("ftp", "ftp://h.example/m.safetensors"),
    plain("upper-case", "HTTP://h.example/m.safetensors"),
    plain("ip", "https://192.0.2.1/m.safetensors"),
    plain("ip6", "https://[2001:db8::1]/m.safetensors"),
    plain("ip-as-one-number", "https://3221225985/m.safetensors"),
    plain("ip-in-hexadecimal", "https://0xc0.0.2.0x1/m.safetensors"),
    plain("this-machine", "http://127.0.0.1/m.safetensors"),
    unpinned("main", GOOD_HF | {"revision": "main"}),
    unpinned("tag", GOOD_HF | {"revision": "v1.0"}),
    unpinned("short", GOOD_HF | {"revision": COMMIT[:7]}),
    unpinned("39-digits", GOOD_HF | {"revision": COMMIT[:39]}),
    unpinned("upper-case", GOOD_HF | {"revision": COMMIT.upper()}),
    unpinned("pull-request", GOOD_HF | {"revision": "refs/pr/1"}),
    unpinned("resolve-main", url("https://huggingface.co/org/name/resolve/main/m.safetensors")),
    unpinned("raw-main", url("https://huggingface.co/org/name/raw/main/m.safetensors")),
    unpinned("resolve-pull-request", url("https://huggingface.co/org/name/resolve/refs%2Fpr%2F1/m.safetensors")),
    unpinned("github-raw", url("https://raw.githubusercontent.com/org/name/main/m.safetensors")),
    case(
        28,
        "one-name-in-the-cache",
        "source-collision",
        entry(source=torch_hub("a/weights.pth"), upstream=GOOD_UPSTREAM),
        entry("n.safetensors", OTHER, source=torch_hub("b/Weights.pth")),
    ),
    one(47, "expired", "exception-expired", **EXPIRED),
    one(47, "expired-is-no-exception", "weak-or-short-hash", **EXPIRED),
    one(47, "downgrade-to-md5", "weak-or-short-hash", source=GOOD_HF, upstream=upstream("md5", MD5)),
    one(47, "no-upstream-any-more", "no-hash-listed", source=GOOD_HF),
)
