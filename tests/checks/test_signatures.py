from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from corpus.signatures import (
    AUTHORITY,
    CONTENT,
    MODEL,
    NOW,
    OTHER,
    SIGNATURES,
    SIGNER,
    YEAR,
    edited,
    mail,
    make_certificate,
    pem,
    pem_of,
    sign_with_certificate,
    sign_with_key,
    usage,
    write_good,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from sigstore_instance import SigstoreInstance

from pytest_backdoor.checks.provenance.signatures import signature_problems


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def problems(folder: Path, table, *names: str, **digests: str):
    """What is wrong, with the files of ``folder`` as those that are loaded."""
    files = {name: digests.get(name) or sha256(folder / name) for name in names or (MODEL,)}
    return signature_problems(table, folder=folder, files=files)


def reason(folder: Path, table, *names: str) -> str:
    (problem,) = problems(folder, table, *names)
    assert problem.blocks
    assert problem.remedy
    return f"{problem.rule}: {problem.message}"


@pytest.fixture(params=[ec.SECP256R1, ec.SECP384R1, ec.SECP521R1], ids=lambda curve: curve.name)
def any_key(request):
    return ec.generate_private_key(request.param())


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


# Keys


def test_key(tmp_path, any_key):
    (tmp_path / MODEL).write_bytes(CONTENT)
    (tmp_path / "key.pem").write_bytes(pem_of(any_key))
    sign_with_key(tmp_path / MODEL, tmp_path / "net.sig", any_key)
    table = {"method": "key", "bundle": "net.sig", "key": "key.pem"}
    assert problems(tmp_path, table) == []
    fingerprint = sha256(tmp_path / "key.pem")
    assert problems(tmp_path, {**table, "key-sha256": fingerprint}) == []


@pytest.mark.parametrize("case", SIGNATURES, ids=lambda case: f"row_{case.row}_{case.name}")
def test_bad_bundle(tmp_path, case):
    table = case.write(tmp_path)
    text = reason(tmp_path, table)
    assert text.startswith(case.rule)
    assert case.reason in text


def test_the_cases_start_from_a_good_one(tmp_path):
    assert problems(tmp_path, write_good(tmp_path)) == []


@pytest.mark.parametrize("length", range(0, 1000, 83))
def test_row_46_bundle_cut_off(tmp_path, length):
    table = write_good(tmp_path)
    content = (tmp_path / "net.sig").read_bytes()
    (tmp_path / "net.sig").write_bytes(content[:length])
    assert reason(tmp_path, table).startswith("signature-not-verified")


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [[]]], ids=repr)
def test_row_46_any_value_in_any_place(tmp_path, value):
    table = write_good(tmp_path)
    good = json.loads((tmp_path / "net.sig").read_text())

    def places(values, path=()):
        for name, inner in values.items() if isinstance(values, dict) else enumerate(values):
            yield (*path, name)
            if isinstance(inner, dict | list):
                yield from places(inner, (*path, name))

    for path in places(good):
        if path[-1] in ("tlogEntries", "keyid"):  # not used with a key
            continue
        spoiled = json.loads(json.dumps(good))
        inner = spoiled
        for name in path[:-1]:
            inner = inner[name]
        if (path[-1], value) in (("hint", None), ("hint", []), ("hint", {}), ("publicKey", {})):
            continue  # older bundles name no key
        inner[path[-1]] = value
        (tmp_path / "net.sig").write_text(json.dumps(spoiled))
        assert [problem.blocks for problem in problems(tmp_path, table)] == [True], path


# Which files are signed


@pytest.fixture
def published(tmp_path, key):
    """A folder as a publisher signs it, below the lock file's."""
    folder = tmp_path / "models" / "net"
    folder.mkdir(parents=True)
    (folder / "net.onnx").write_bytes(CONTENT)
    (folder / "net.onnx_data").write_bytes(b"its weights")
    (folder / "README.md").write_text("About it.")
    (tmp_path / "key.pem").write_bytes(pem_of(key))
    return folder


TABLE = {"method": "key", "bundle": "models/net/model.sig", "key": "key.pem"}
NAMES = ("models/net/net.onnx", "models/net/net.onnx_data")


@pytest.mark.parametrize("root", ["models/net", "models", "."])
def test_folder(tmp_path, key, published, root):
    sign_with_key(tmp_path / root, published / "model.sig", key, ignored=(tmp_path / "key.pem",))
    assert problems(tmp_path, TABLE, *NAMES) == []


def test_what_is_not_loaded_does_not_count(tmp_path, key, published):
    sign_with_key(published, published / "model.sig", key)
    (published / "README.md").unlink()
    (published / "more.txt").write_text("Not signed.")
    assert problems(tmp_path, TABLE, *NAMES) == []


def test_digests_are_those_of_what_is_loaded(tmp_path, key, published):
    """What lies at the path when the signature is verified is not looked at: it may not be what was loaded."""
    sign_with_key(published, published / "model.sig", key)
    loaded = hashlib.sha256(b"exchanged and put back").hexdigest()
    assert "signs other content" in problems(tmp_path, TABLE, *NAMES, **{NAMES[0]: loaded})[0].message
    good = sha256(published / "net.onnx")
    (published / "net.onnx").write_bytes(b"exchanged afterwards")
    assert problems(tmp_path, TABLE, *NAMES, **{NAMES[0]: good}) == []


def test_row_46_external_data_changed(tmp_path, key, published):
    sign_with_key(published, published / "model.sig", key)
    (published / "net.onnx_data").write_bytes(b"other weights")
    assert "signs other content of models/net/net.onnx_data" in reason(tmp_path, TABLE, *NAMES)


def test_row_46_external_data_not_signed(tmp_path, key, published):
    sign_with_key(published, published / "model.sig", key, ignored=(published / "net.onnx_data",))
    assert "does not sign models/net/net.onnx_data" in reason(tmp_path, TABLE, *NAMES)


def test_row_46_single_file_signed_but_not_its_external_data(tmp_path, key, published):
    sign_with_key(published / "net.onnx", published / "model.sig", key)
    assert "does not sign" in reason(tmp_path, TABLE, *NAMES)


@pytest.mark.parametrize("folder", [".github", ".git"])
def test_row_46_folder_that_signers_pass_over(tmp_path, key, published, folder):
    (published / folder).mkdir()
    (published / folder / "payload.onnx").write_bytes(b"a payload")
    sign_with_key(published, published / "model.sig", key)
    name = f"models/net/{folder}/payload.onnx"
    assert f"does not sign {name}" in reason(tmp_path, TABLE, name)


def test_row_46_model_of_the_same_name_in_another_folder(tmp_path, key, published):
    (published / "b").mkdir()
    (published / "b" / "net.onnx").write_bytes(OTHER)
    sign_with_key(published, published / "model.sig", key)
    shutil.copy(published / "net.onnx", published / "b" / "net.onnx")
    assert "signs other content" in reason(tmp_path, TABLE, "models/net/b/net.onnx")


@pytest.mark.parametrize("name", ["blake2", "blake3"])
def test_row_46_other_hashes(tmp_path, key, published, name):
    sign_with_key(published, published / "model.sig", key, hash_name=name)
    assert f"a digest of {name}" in reason(tmp_path, TABLE, *NAMES)


def test_row_46_shards(tmp_path, key, published):
    from corpus.signatures import write_key
    from model_signing import hashing, signing

    private = write_key(key, tmp_path / "private.pem")
    config = hashing.Config().use_shard_serialization(shard_size=4)
    signer = signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config)
    signer.sign(published, published / "model.sig")
    assert "does not sign" in reason(tmp_path, TABLE, *NAMES)


def test_links_of_the_hubs_cache(tmp_path, key, published):
    """A folder that was signed before it was uploaded, then downloaded into a cache of links."""
    sign_with_key(published, published / "model.sig", key)
    snapshot = tmp_path / "models--o--r" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--o--r" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    files = {}
    for name in ("net.onnx", "net.onnx_data"):
        blob = blobs / sha256(published / name)
        (published / name).rename(blob)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
        files[f"hf://o/r@{'0' * 40}/{name}"] = sha256(snapshot / name)
    assert signature_problems(TABLE, folder=tmp_path, files=files) == []


# Certificates


@pytest.fixture
def authority():
    key = ec.generate_private_key(ec.SECP256R1())
    return make_certificate(AUTHORITY, key), key


def certified(folder: Path, authority, **options):
    """A model signed with a certificate of the authority; gives the table of its entry."""
    key = ec.generate_private_key(ec.SECP256R1())
    options = {"extensions": (usage(), mail(SIGNER)), **options}
    certificate = make_certificate("The signer", key, signed_by=authority, **options)
    (folder / MODEL).write_bytes(CONTENT)
    (folder / "ca.pem").write_bytes(pem(authority[0]))
    sign_with_certificate(folder / MODEL, folder / "net.sig", key, certificate, authority[0])
    (folder / "signer.pem").write_bytes(pem_of(key))
    return {"method": "certificate", "bundle": "net.sig", "chain": ["ca.pem"], "identity": SIGNER}


def test_certificate(tmp_path, authority):
    table = certified(tmp_path, authority)
    assert problems(tmp_path, table) == []
    assert problems(tmp_path, {**table, "issuer": AUTHORITY}) == []
    assert problems(tmp_path, {**table, "key-sha256": sha256(tmp_path / "signer.pem")}) == []


def test_certificate_of_a_signer_of_code(tmp_path, authority):
    code = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    table = certified(tmp_path, authority, extensions=(code,))
    assert problems(tmp_path, {**table, "identity": "The signer"}) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"identity": "other@example.org"}, "the identity of its signer is signer@example.org instead of other@"),
        ({"issuer": "Another authority"}, "instead of Another authority"),
        ({"key-sha256": "ab" * 32}, "its certificate is for another key"),
    ],
)
def test_row_46_other_signer(tmp_path, authority, change, expected):
    text = reason(tmp_path, {**certified(tmp_path, authority), **change})
    assert text.startswith("signature-wrong-identity")
    assert expected in text


@pytest.mark.parametrize(
    ("missing", "expected"), [("chain", "names no chain"), ("identity", "does not say whose certificate")]
)
def test_row_46_entry_that_would_trust_anybody(tmp_path, authority, missing, expected):
    table = certified(tmp_path, authority)
    del table[missing]
    assert expected in reason(tmp_path, table)


def test_row_46_expired_certificate(tmp_path, authority):
    table = certified(tmp_path, authority, begins=NOW - YEAR / 2, ends=NOW - YEAR / 4)
    assert "no time assurance" in reason(tmp_path, table)


def test_row_46_certificate_of_the_future(tmp_path, authority):
    table = certified(tmp_path, authority, begins=NOW + YEAR / 4)
    assert "not valid until" in reason(tmp_path, table)


def test_row_46_other_authority(tmp_path, authority):
    table = certified(tmp_path, authority)
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ca.pem").write_bytes(pem(make_certificate(AUTHORITY, key)))
    assert "does not come from the given chain" in reason(tmp_path, table)


def test_row_46_certificate_not_for_signing(tmp_path, authority):
    table = certified(tmp_path, authority, extensions=(usage(signs=False), mail(SIGNER)))
    assert "cannot be used for signing" in reason(tmp_path, table)


def test_row_46_rsa_certificate(tmp_path, authority):
    table = certified(tmp_path, authority)
    key = rsa.generate_private_key(65537, 2048)
    certificate = make_certificate("The signer", key, signed_by=authority, extensions=(usage(), mail(SIGNER)))
    replace_certificate(tmp_path / "net.sig", certificate)
    assert "of a kind that is not accepted" in reason(tmp_path, table)


def test_row_46_certificate_of_another_key(tmp_path, authority):
    table = certified(tmp_path, authority)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = make_certificate("The signer", key, signed_by=authority, extensions=(usage(), mail(SIGNER)))
    replace_certificate(tmp_path / "net.sig", certificate)
    assert "not made with this key" in reason(tmp_path, table)


@pytest.mark.parametrize("place", ["material", "chain", "certificate"])
def test_row_46_a_second_certificate_in_another_spelling(tmp_path, authority, place):
    """Somebody else of the same authority signs and shows the certificate of the expected signer."""
    table = certified(tmp_path, authority)
    expected = json.loads((tmp_path / "net.sig").read_text())["verificationMaterial"]["x509CertificateChain"]
    table = certified(tmp_path, authority, extensions=(usage(), mail("other@example.org")))

    def spell(values):
        material = values["verificationMaterial"]
        own = material["x509CertificateChain"]
        if place == "material":
            values["verificationMaterial"] = {"x509CertificateChain": expected, **material}
            values["verificationMaterial"]["x509CertificateChain"] = expected
            values["verificationMaterial"]["x509_certificate_chain"] = own
        elif place == "chain":
            material["x509CertificateChain"] = {**expected, "certificates_": own["certificates"]}
        else:
            expected["certificates"][0]["raw_bytes"] = own["certificates"][0]["rawBytes"]
            material["x509CertificateChain"] = expected

    edited(tmp_path / "net.sig", spell)
    assert "unknown key" in reason(tmp_path, table)


def test_row_46_two_kinds_of_signers(tmp_path, authority):
    table = certified(tmp_path, authority)

    def add_key(values):
        values["verificationMaterial"]["publicKey"] = {"hint": "ab" * 32}

    edited(tmp_path / "net.sig", add_key)
    assert "2 ways" in reason(tmp_path, table)


def replace_certificate(bundle: Path, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    text = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    edited(
        bundle,
        lambda values: values["verificationMaterial"]["x509CertificateChain"]["certificates"][0].update(rawBytes=text),
    )


# Sigstore


ISSUER = "https://accounts.example.org"


def by_sigstore(folder: Path, instance: SigstoreInstance, trust: SigstoreInstance | None = None):
    """A model signed by way of an instance, and the configuration that trusts it, or another one."""
    write_good(folder)
    payload = json.loads((folder / "net.sig").read_text())["dsseEnvelope"]["payload"]
    bundle = instance.sign(base64.b64decode(payload), SIGNER, ISSUER)
    (folder / "net.sig").write_text(json.dumps(bundle))
    (folder / "trust.json").write_text(json.dumps((trust or instance).trust_config()))
    table = {"method": "sigstore", "bundle": "net.sig", "identity": SIGNER, "issuer": ISSUER}
    return {**table, "trust-config": "trust.json"}


@pytest.mark.parametrize("age", [0, 400], ids=["today", "certificate long expired"])
def test_sigstore(tmp_path, age):
    """Certificates last minutes; the log proves that the signature was made in time."""
    instance = SigstoreInstance(NOW - age * YEAR / 365)
    assert problems(tmp_path, by_sigstore(tmp_path, instance)) == []


def test_row_46_other_instance(tmp_path):
    text = reason(tmp_path, by_sigstore(tmp_path, SigstoreInstance(), SigstoreInstance()))
    assert text.startswith("signature-not-verified")
    assert "Sigstore does not accept it" in text


def test_row_46_model_changed_after_sigstore(tmp_path):
    table = by_sigstore(tmp_path, SigstoreInstance())
    (tmp_path / MODEL).write_bytes(OTHER)
    assert "signs other content" in reason(tmp_path, table)


def _log_entry(values):
    return values["verificationMaterial"]["tlogEntries"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda values: _log_entry(values).update(integratedTime="1"),
        lambda values: _log_entry(values).update(canonicalizedBody="e30="),
        lambda values: _log_entry(values)["inclusionProof"].update(treeSize="2"),
        lambda values: values["verificationMaterial"].update(tlogEntries=[]),
        lambda values: values["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
        lambda values: values["verificationMaterial"].pop("certificate"),
    ],
    ids=["time", "entry", "proof", "no-entry", "signature", "no-certificate"],
)
def test_row_46_damaged_bundle_of_sigstore(tmp_path, change):
    table = by_sigstore(tmp_path, SigstoreInstance())

    def changed(values):
        change(values)

    edited(tmp_path / "net.sig", changed)
    assert reason(tmp_path, table).startswith("signature-not-verified")


@pytest.mark.parametrize("change", [{"identity": "other@example.org"}, {"issuer": "https://example.org"}])
def test_row_46_other_identity_or_issuer(tmp_path, change):
    text = reason(tmp_path, {**by_sigstore(tmp_path, SigstoreInstance()), **change})
    assert text.startswith("signature-wrong-identity")
    assert next(iter(change.values())) in text


@pytest.mark.parametrize("missing", ["trust-config", "identity", "issuer"])
def test_row_46_incomplete_entry(tmp_path, missing):
    table = by_sigstore(tmp_path, SigstoreInstance())
    del table[missing]
    assert missing in reason(tmp_path, table)


def test_row_46_damaged_trust_config(tmp_path):
    table = by_sigstore(tmp_path, SigstoreInstance())
    (tmp_path / "trust.json").write_text("{}")
    assert reason(tmp_path, table).startswith("signature-not-verified")


# The extra


@pytest.mark.parametrize("package", ["model_signing", "OpenSSL", "cryptography"])
def test_row_47_extra_that_is_not_installed(tmp_path, package, monkeypatch):
    table = write_good(tmp_path)
    for name in list(sys.modules):
        if name.split(".")[0] in (package, "model_signing") or name.endswith("signatures._model_signing"):
            monkeypatch.delitem(sys.modules, name)
    for name in (package, "cryptography.hazmat.primitives.serialization") if package == "cryptography" else (package,):
        monkeypatch.setitem(sys.modules, name, None)
    text = reason(tmp_path, table)
    assert text.startswith("signature-not-verified")
    assert "not installed" in text
