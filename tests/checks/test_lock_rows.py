"""Each bad input that the research lists about hashes, sources and the lock file, by its row."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from corpus import Case
from corpus.locks import (
    CASES,
    COMMIT,
    GOOD_HF,
    GOOD_UPSTREAM,
    MD5,
    MODEL,
    OTHER,
    SHA1,
    SHA256,
    entry,
    lock_text,
    project,
    torch_hub,
    upstream,
    url,
)

from pytest_backdoor.checks.provenance._claims import claim_problems
from pytest_backdoor.checks.provenance._digests import content_digests, name_hash, normalised_hash
from pytest_backdoor.checks.provenance._lockfile import Lock, parse_lock, read_lock
from pytest_backdoor.cli import DIFFERENT, OK, WRONG, main
from pytest_backdoor.errors import LockError
from pytest_backdoor.findings import Problem

TODAY = date(2026, 2, 1)


@pytest.fixture(autouse=True)
def no_ci(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.chdir(tmp_path)


def parsed(*entries: str, policy: str = "") -> Lock:
    return parse_lock(lock_text(*entries, policy=policy).encode(), Path("models.lock"))


def problems_of(lock: Lock, content: bytes = MODEL, **options) -> list[Problem]:
    return claim_problems(lock.artifacts[0], lock, content_digests(content), options.pop("today", TODAY), **options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"row_{case.row}_{case.name}")
def test_the_rule_is_reported_and_the_command_fails(case: Case, tmp_path, capsys):
    model = case.write(tmp_path, tmp_path / "canary")
    lock = read_lock(tmp_path / "models.lock")
    found = problems_of(lock, model.read_bytes())
    assert case.rules & {problem.rule for problem in found if problem.blocks}
    assert all("m.safetensors" in problem.message and problem.remedy for problem in found)
    assert main(["lock", "check", "m.safetensors"], today=TODAY) == DIFFERENT
    output = capsys.readouterr().out
    assert "FAIL  m.safetensors" in output
    assert next(iter(case.rules)) + ":" in output


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({}, id="nothing-said"),
        pytest.param({"source": {"type": "local", "reason": "trained here"}}, id="local"),
        pytest.param({"source": GOOD_HF, "upstream": GOOD_UPSTREAM}, id="hub"),
        pytest.param({"source": GOOD_HF | {"requested": "main"}, "upstream": GOOD_UPSTREAM}, id="requested"),
        pytest.param({"source": torch_hub(f"m-{SHA256}.pth")}, id="whole-hash-in-the-name"),
        pytest.param({"source": torch_hub(f"m-{SHA256[:8]}.pth"), "upstream": GOOD_UPSTREAM}, id="short-and-strong"),
        pytest.param(
            {"source": url("https://h.example/m", "keras", file_hash=SHA256, alg="sha256")}, id="keras-sha256"
        ),
        pytest.param(
            {
                "source": url(f"https://huggingface.co/org/name/resolve/{COMMIT}/m.safetensors"),
                "upstream": GOOD_UPSTREAM,
            },
            id="pinned-url",
        ),
        pytest.param(
            {"source": url("https://h.example/v1.2/m"), "recorded": {"how": "trust-on-first-use"}}, id="first-use"
        ),
    ],
)
def test_good_entries_pass(tmp_path, claims):
    project(entry(**claims))(tmp_path, tmp_path / "canary")
    assert main(["lock", "check"], today=TODAY) == OK


def test_row_17_a_file_that_is_not_listed(tmp_path, capsys):
    project(entry("other.safetensors"))(tmp_path, tmp_path / "canary")
    assert main(["lock", "check", "m.safetensors"]) == DIFFERENT
    assert "not listed" in capsys.readouterr().out


def test_row_17_an_entry_without_a_file(tmp_path, capsys):
    project(entry(), entry("gone.safetensors"))(tmp_path, tmp_path / "canary")
    assert main(["lock", "check"]) == DIFFERENT
    output = capsys.readouterr().out
    assert "ok    m.safetensors" in output
    assert "FAIL  gone.safetensors" in output


def test_row_17_nothing_listed_is_not_success(tmp_path):
    project()(tmp_path, tmp_path / "canary")
    assert main(["lock", "check"]) == WRONG


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mobilenet_v2_qnnpack_37f702c5.pth", "37f702c5"),
        ("resnet18_fbgemm_16fa66dd.pth", "16fa66dd"),
        ("resnet50_fbgemm_bf931d71.pth", "bf931d71"),
        ("resnext101_32x8_fbgemm_09835ccf.pth", "09835ccf"),
        ("resnet18-f37072fd.pth", "f37072fd"),
        ("resnet18-F37072FD.pth", "f37072fd"),
        ("efficientnet_b5_lukemelas-1a07897c.pth", "1a07897c"),
    ],
)
def test_row_19_hashes_in_names_are_found(name, value):
    assert name_hash(name) == value


@pytest.mark.parametrize(
    "name", ["m.pth", "m-.pth", "m-9.pth", "m-.x-deadbeef.pth", "m-1234567.pth", "deadbeef.pth", ""]
)
def test_row_19_names_without_a_hash(name):
    assert name_hash(name) is None


@pytest.mark.parametrize("name", ["wide-50.pth", "yolo_v5.pth", "resnet-101.onnx"])
def test_row_20_a_number_is_no_hash(name):
    assert name_hash(name) is None


@pytest.mark.parametrize("text", [SHA256, SHA256.upper(), f"sha256:{SHA256}", f"SHA256:{SHA256.upper()}"])
def test_row_21_upper_case_and_prefix_are_normalised(text):
    assert normalised_hash("sha256", text) == SHA256


@pytest.mark.parametrize(
    "text",
    [
        "",
        f" {SHA256}",
        f"{SHA256} ",
        f"{SHA256}\n",
        f"{SHA256}\r\n",
        f"sha256: {SHA256}",
        f"sha256:sha256:{SHA256}",
        f"sha1:{SHA256}",
        f"sha512:{SHA256}",
        "sha256-" + "A" * 43 + "=",
        SHA256[:-1],
        SHA256 + "0",
        "0x" + SHA256[2:],
    ],
)
def test_row_21_every_other_form_is_refused(text):
    with pytest.raises(LockError, match="published sha256"):
        normalised_hash("sha256", text)


@pytest.mark.parametrize("digit", ["１", "٣", "é", "\u212a"])
def test_row_22_digits_that_are_not_ascii_are_refused(digit):
    with pytest.raises(LockError, match="hexadecimal"):
        normalised_hash("sha256", digit * 64)
    with pytest.raises(LockError, match="hexadecimal"):
        parsed(entry(source=GOOD_HF, upstream=upstream("sha256", digit * 64)))


def test_row_23_the_algorithm_is_never_told_from_the_length():
    with pytest.raises(LockError, match=r"'value' in .* is not 64"):
        parsed(entry(upstream=upstream("sha256", SHA1)))
    with pytest.raises(LockError, match="did you mean"):
        parsed(entry(upstream=upstream("sha-1", SHA1)))
    with pytest.raises(LockError, match="never guessed"):
        parsed(entry(source=url("https://h.example/m", "keras", file_hash=MD5)))
    with pytest.raises(LockError, match="lacks the key 'alg'"):
        parsed(entry(upstream={"value": SHA1, "from": "publisher"}))


def test_row_24_a_weak_hash_is_compared_and_may_be_allowed():
    allow = [{"rule": "weak-or-short-hash", "reason": "the author publishes SHA-1 only", "until": "2026-02-01"}]
    lock = parsed(entry(source=url("https://h.example/m"), upstream=upstream("sha1", SHA1), allow=allow))
    (problem,) = problems_of(lock)
    assert not problem.blocks
    assert problem.allowed == "until 2026-02-01: the author publishes SHA-1 only"
    rules = {problem.rule for problem in problems_of(lock, OTHER) if problem.blocks}
    assert rules == {"hash-mismatch"}


def test_row_26_this_machine_is_exempt_only_when_a_test_says_so():
    lock = parsed(entry(source=url("http://127.0.0.1:8000/m"), upstream=GOOD_UPSTREAM))
    assert [problem.rule for problem in problems_of(lock)] == ["plain-http"]
    assert problems_of(lock, local_server=True) == []


def test_row_26_a_hub_without_tls():
    lock = parsed(entry(source=GOOD_HF, upstream=GOOD_UPSTREAM))
    assert problems_of(lock, hub_endpoint="https://hub.example") == []
    assert [problem.rule for problem in problems_of(lock, hub_endpoint="http://hub.example")] == ["plain-http"]


@pytest.mark.parametrize(
    ("policy", "claims"),
    [
        ("allow-http = true", {"source": url("http://h.example/m"), "upstream": GOOD_UPSTREAM}),
        ("require-pinned-revision = false", {"source": GOOD_HF | {"revision": "main"}, "upstream": GOOD_UPSTREAM}),
        ("require-hashes = false", {"source": GOOD_HF}),
    ],
)
def test_a_policy_that_was_applied_is_reported(policy, claims):
    lock = parsed(entry(**claims), policy=f"[policy]\n{policy}")
    (problem,) = problems_of(lock)
    assert problem.allowed == f"[policy] {policy}"
    assert not problem.blocks
    (strict,) = problems_of(parsed(entry(**claims)))
    assert strict.blocks


def test_row_27_the_name_counts_even_if_the_source_is_pinned():
    name = "hf://org/name@main/m.safetensors"
    lock = parsed(entry(name, source=GOOD_HF, upstream=GOOD_UPSTREAM))
    assert [problem.rule for problem in problems_of(lock)] == ["unpinned-revision"]
    with pytest.raises(LockError, match="another repository"):
        parsed(entry(name, source=GOOD_HF | {"repo": "org/other"}))
    with pytest.raises(LockError, match="another repository"):
        parsed(entry(name, source={"type": "local"}))


def test_row_28_mirrors_and_other_caches_do_not_collide():
    mirror = entry("n.safetensors", source=url("https://mirror.example/weights.pth", "torch-hub"))
    keras = entry("o.safetensors", OTHER, source=url("https://k.example/weights.pth", "keras"))
    renamed = entry("p.safetensors", OTHER, source=torch_hub("b/weights.pth", **{"file-name": "b.pth"}))
    plain = entry("q.safetensors", OTHER, source=url("https://k.example/weights.pth"))
    own = entry(source=torch_hub("weights.pth"), upstream=GOOD_UPSTREAM)
    assert problems_of(parsed(own, mirror, keras, renamed, plain)) == []


def test_first_use_is_repeated_in_every_report_and_does_not_fail():
    lock = parsed(entry(source=GOOD_HF, recorded={"how": "trust-on-first-use"}))
    (problem,) = problems_of(lock, display="shown")
    assert (problem.rule, problem.fails) == ("no-hash-listed", False)
    assert problem.message.startswith("shown was trusted on first use")


def test_what_cannot_be_allowed_is_not_allowed_even_by_an_entry_that_no_lock_file_could_hold():
    allow = [{"rule": "hash-mismatch", "reason": "r", "until": "2999-01-01"}]
    lock = parsed(entry(source=GOOD_HF, upstream=GOOD_UPSTREAM))
    forged = replace(lock.artifacts[0], claims=dict(lock.artifacts[0].claims) | {"allow": allow})
    (problem,) = claim_problems(forged, lock, content_digests(OTHER), TODAY)
    assert problem.blocks


def test_an_exception_allows_its_own_rule_only():
    allow = [{"rule": "unpinned-revision", "reason": "a demo", "until": "2026-12-31"}]
    lock = parsed(entry(source=GOOD_HF | {"revision": "main"}, allow=allow))
    assert [(problem.rule, problem.blocks) for problem in problems_of(lock)] == [
        ("no-hash-listed", True),
        ("unpinned-revision", False),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(lock_text().replace('"1"', '"2"'), "lock-version is '2'", id="version"),
        pytest.param(lock_text(entry(upsteam={})), "did you mean 'upstream'", id="key"),
        pytest.param(lock_text(entry(), entry()), "name the same file", id="duplicate"),
        pytest.param(lock_text(entry("a"), entry("A")), "name the same file", id="case"),
        pytest.param(lock_text(entry("/etc/m")), "not relative", id="absolute"),
        pytest.param(lock_text(entry("a/../m")), "'..'", id="dots"),
        pytest.param(
            lock_text(entry(source=GOOD_HF, recorded={"how": "signature"})), "no 'signature' any more", id="signature"
        ),
        pytest.param(
            lock_text(entry(source=GOOD_HF, recorded={"how": "upstream-match"})),
            "no 'upstream' any more",
            id="upstream",
        ),
        pytest.param(lock_text(entry(signature={"method": "key"})), "lacks the key 'bundle'", id="empty-signature"),
        pytest.param(
            lock_text(entry(signature={"method": "sigstore", "bundle": "b", "identity": "", "issuer": "i"})),
            "'identity' in .* is empty",
            id="anybody",
        ),
        pytest.param(
            lock_text(entry(signature={"method": "certificate", "bundle": "b", "chain": []})),
            "not an array of at least one path",
            id="no-chain",
        ),
        pytest.param(
            lock_text(entry(signature={"method": "key", "bundle": "b", "key": "k", "identity": "me"})),
            "unknown key 'identity'",
            id="a-key-proves-no-identity",
        ),
        pytest.param(
            lock_text(entry(signature={"method": "key", "bundle": "../b", "key": "k"})), "'..'", id="bundle-outside"
        ),
        pytest.param(
            lock_text(entry(allow=[{"rule": "hash-mismatch", "reason": "r", "until": "2027-01-01"}])),
            "which cannot be allowed",
            id="not-excusable",
        ),
        pytest.param(
            lock_text(entry(allow=[{"rule": "plain-htp", "reason": "r", "until": "2027-01-01"}])),
            "did you mean 'plain-http'",
            id="no-rule",
        ),
        pytest.param(
            lock_text(entry(allow=[{"rule": "plain-http", "reason": " ", "until": "2027-01-01"}])),
            "'reason' in .* is empty",
            id="no-reason",
        ),
        pytest.param(
            lock_text(entry(allow=[{"rule": "plain-http", "reason": "r"}])), "lacks the key 'until'", id="for-ever"
        ),
        pytest.param(
            lock_text(entry(allow=[{"rule": "plain-http", "reason": "r", "until": "2027-02-30"}])),
            "does not exist",
            id="no-date",
        ),
        pytest.param(
            lock_text(entry(allow=[{"rule": "plain-http", "reason": "r", "until": "20270101"}])),
            "not a date like",
            id="another-date",
        ),
        pytest.param(
            lock_text(entry(allow=[{"rule": "plain-http", "reason": "r", "until": "2027-01-01"}] * 2)),
            "twice",
            id="two-exceptions",
        ),
        pytest.param(
            lock_text(entry(source={"type": "hf", "repo": "o/n", "file": "f"})), "'revision'", id="no-revision"
        ),
        pytest.param(lock_text(entry(source=url("file:///m"))), "not an address", id="file-url"),
        pytest.param(lock_text(entry(source=url("https://"))), "not an address", id="no-host"),
        pytest.param(lock_text(entry(source=url("https://[bad/m"))), "no valid host", id="bad-host"),
        pytest.param(lock_text(entry(source=url("https://me:pw@h.example/m"))), "password", id="password"),
        pytest.param(lock_text(entry(source=url("https://h.example/ä"))), "plain ASCII", id="no-ascii"),
        pytest.param(lock_text(entry(upstream=upstream("sha256", SHA256, "hope"))), "instead of one of", id="from"),
    ],
)
def test_row_47_what_weakens_a_lock_file_is_an_error(tmp_path, text, reason):
    project()(tmp_path, tmp_path / "canary")
    (tmp_path / "models.lock").write_text(text, encoding="utf-8")
    with pytest.raises(LockError, match=reason):
        read_lock(tmp_path / "models.lock")
    assert main(["lock", "check"], today=TODAY) == WRONG


def test_row_47_an_invalid_path_is_no_lock_file():
    with pytest.raises(LockError, match="not TOML"):
        parse_lock(b'lock-version = "1"\nlock-version = "1"', Path("models.lock"))
