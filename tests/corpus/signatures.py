"""Bundles of signatures that must not count, made of good ones; nothing in here needs a network."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from onnx import TensorProto, helper

from corpus import Case


def _model(value: float) -> bytes:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [value])
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [image], [scores], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


CONTENT, OTHER = _model(1.0), _model(2.0)
MODEL, SIGNER, AUTHORITY = "net.onnx", "signer@example.org", "An authority for tests"
NOW = datetime.datetime.now(datetime.UTC)
YEAR = datetime.timedelta(days=365)


def pem_of(key: Any) -> bytes:
    """The public half of a key."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_key(key: Any, path: Path) -> Path:
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def make_certificate(
    subject: str,
    key: Any,
    *,
    signed_by: tuple[x509.Certificate, Any] | None = None,
    begins: datetime.datetime = NOW - YEAR,
    ends: datetime.datetime = NOW + YEAR,
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> x509.Certificate:
    """A certificate, of an authority if nobody signed it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    issuer, issuer_key = (signed_by[0].subject, signed_by[1]) if signed_by else (name, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def usage(*, signs: bool = True) -> x509.KeyUsage:
    """What a key is for: signatures, or else something else."""
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_cert_sign", "crl_sign")
    unset = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=signs, key_agreement=not signs, **unset)


def mail(address: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.RFC822Name(address)])


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def sign_with_key(target: Path, bundle: Path, key: Any, *, hash_name: str = "sha256", ignored: tuple = ()) -> None:
    """Sign a file or a folder as the publisher would."""
    from model_signing import hashing, signing

    private = write_key(key, bundle.with_suffix(".key"))
    config = hashing.Config().set_ignored_paths(paths=[bundle, private, *ignored])
    config.use_file_serialization(hashing_algorithm=hash_name)
    signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config).sign(target, bundle)
    private.unlink()


def sign_with_certificate(
    target: Path, bundle: Path, key: Any, certificate: x509.Certificate, authority: x509.Certificate
) -> None:
    from model_signing import hashing, signing

    private = write_key(key, bundle.with_suffix(".key"))
    own, chain = bundle.with_suffix(".own.pem"), bundle.with_suffix(".chain.pem")
    own.write_bytes(pem(certificate))
    chain.write_bytes(pem(authority))
    config = hashing.Config().set_ignored_paths(paths=[bundle, private, own, chain])
    signer = signing.Config().use_certificate_signer(
        private_key=private, signing_certificate=own, certificate_chain=[chain]
    )
    signer.set_hashing_config(config).sign(target, bundle)
    for path in (private, own, chain):
        path.unlink()


Change = Callable[[dict[str, Any]], Any]


def edited(bundle: Path, change: Change) -> None:
    """Change a bundle in place; ``change`` gives what takes its place, or None for what it was given."""
    values = json.loads(bundle.read_text())
    result = change(values)
    bundle.write_text(json.dumps(values if result is None else result))


def restated(bundle: Path, change: Change) -> None:
    """The same for the statement that is signed, whose signature no longer fits."""

    def change_payload(values: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(values["dsseEnvelope"]["payload"]))
        result = change(statement)
        text = json.dumps(statement if result is None else result)
        values["dsseEnvelope"]["payload"] = base64.b64encode(text.encode()).decode()

    edited(bundle, change_payload)


@dataclass(frozen=True, kw_only=True)
class SignatureCase:
    """A folder with ``net.onnx``, the bundle ``net.sig`` and the key ``key.pem`` of which one thing is wrong.

    ``spoil``: makes it so, given the folder. ``reason``: a part of what is said. ``table``: what else the entry says.
    """

    name: str
    spoil: Callable[[Path], object]
    reason: str
    rule: str = "signature-not-verified"
    table: Mapping[str, Any] = field(default_factory=dict)
    row: int = 46

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the folder; gives the entry's table."""
        table = write_good(folder)
        self.spoil(folder)
        return {name: value for name, value in {**table, **self.table}.items() if value is not None}


def write_good(folder: Path, content: bytes = CONTENT) -> dict[str, Any]:
    """A model, its bundle and the key; gives the table of its entry."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / MODEL).write_bytes(content)
    (folder / "key.pem").write_bytes(pem_of(key))
    sign_with_key(folder / MODEL, folder / "net.sig", key)
    return {"method": "key", "bundle": "net.sig", "key": "key.pem"}


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _edit(change: Change) -> Callable[[Path], object]:
    return lambda folder: edited(folder / "net.sig", change)


def _restate(change: Change) -> Callable[[Path], object]:
    return lambda folder: restated(folder / "net.sig", change)


def _other_model(folder: Path) -> None:
    write_good(folder, OTHER)
    (folder / MODEL).write_bytes(CONTENT)


def _other_key(folder: Path, kind: Any = None) -> None:
    (folder / "key.pem").write_bytes(pem_of(kind or ec.generate_private_key(ec.SECP256R1())))


def _without_hint(folder: Path) -> None:
    _other_key(folder)
    edited(folder / "net.sig", lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=""))


def _signature_of_another(folder: Path) -> None:
    """The bundle's statement with a valid signature of another statement by the same key."""
    good = json.loads((folder / "net.sig").read_text())
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "key.pem").write_bytes(pem_of(key))
    sign_with_key(folder / MODEL, folder / "net.sig", key)
    (folder / MODEL).write_bytes(OTHER)
    sign_with_key(folder / MODEL, folder / "other.sig", key)
    (folder / MODEL).write_bytes(CONTENT)
    other = json.loads((folder / "other.sig").read_text())
    good["verificationMaterial"] = other["verificationMaterial"]
    good["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"]
    (folder / "net.sig").write_text(json.dumps(good))


def _twice(folder: Path) -> None:
    text = (folder / "net.sig").read_text()
    (folder / "net.sig").write_text(text.replace('"dsseEnvelope"', '"dsseEnvelope": {}, "dsseEnvelope"', 1))


DEEP = b'{"a":' * 40_000 + b"1" + b"}" * 40_000
LIST = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ENDLESS = b'{"' + b'\\"' * 100_000

SIGNATURES: tuple[SignatureCase, ...] = (
    SignatureCase(name="other-model", spoil=_other_model, reason="it signs other content of net.onnx"),
    SignatureCase(name="other-key", spoil=_other_key, reason="another key", rule="signature-wrong-identity"),
    SignatureCase(name="other-key-without-hint", spoil=_without_hint, reason="not made with this key"),
    SignatureCase(
        name="signature-of-another-statement", spoil=_signature_of_another, reason="what it signs was changed"
    ),
    SignatureCase(
        name="key-sha256",
        spoil=lambda folder: None,
        table={"key-sha256": "ab" * 32},
        reason="holds another key than the entry names",
        rule="signature-wrong-identity",
    ),
    SignatureCase(
        name="rsa-key",
        spoil=lambda folder: _other_key(folder, rsa.generate_private_key(65537, 2048)),
        reason="of a kind that is not accepted",
    ),
    SignatureCase(
        name="curve-of-bitcoin",
        spoil=lambda folder: _other_key(folder, ec.generate_private_key(ec.SECP256K1())),
        reason="of a kind that is not accepted",
    ),
    SignatureCase(name="key-is-no-key", spoil=_write("key.pem", b"hello"), reason="the key cannot be read"),
    SignatureCase(name="key-is-gone", spoil=lambda f: (f / "key.pem").unlink(), reason="there is no file key.pem"),
    SignatureCase(name="no-key-named", spoil=lambda f: None, table={"key": None}, reason="does not say its 'key'"),
    SignatureCase(name="unknown-method", spoil=lambda f: None, table={"method": "pgp"}, reason="no method 'pgp'"),
    SignatureCase(
        name="bundle-is-gone",
        spoil=lambda folder: (folder / "net.sig").unlink(),
        reason="there is no file net.sig",
        rule="signature-missing",
    ),
    SignatureCase(
        name="no-bundle-named",
        spoil=lambda folder: None,
        table={"bundle": None},
        reason="names no bundle",
        rule="signature-missing",
    ),
    SignatureCase(name="bundle-outside", spoil=lambda f: None, table={"bundle": "../net.sig"}, reason="'..'"),
    SignatureCase(name="bundle-absolute", spoil=lambda f: None, table={"bundle": "/etc/passwd"}, reason="not relative"),
    SignatureCase(name="bundle-is-a-folder", spoil=lambda f: None, table={"bundle": "."}, reason="'.'"),
    SignatureCase(name="empty-file", spoil=_write("net.sig", b""), reason="not JSON"),
    SignatureCase(name="no-json", spoil=_write("net.sig", b"\xff\xfe"), reason="not JSON"),
    SignatureCase(name="no-object", spoil=_write("net.sig", b"[]"), reason="not a JSON object"),
    SignatureCase(name="200-kB-nested-objects", spoil=_write("net.sig", DEEP), reason="levels deep"),
    SignatureCase(name="200-kB-nested-lists", spoil=_write("net.sig", LIST), reason="levels deep"),
    SignatureCase(name="string-without-end", spoil=_write("net.sig", ENDLESS), reason="not JSON"),
    SignatureCase(name="17-MB", spoil=_write("net.sig", b" " * (17 << 20)), reason="larger than"),
    SignatureCase(name="key-twice", spoil=_twice, reason="holds the key 'dsseEnvelope' twice"),
    SignatureCase(
        name="no-signatures",
        spoil=_edit(lambda bundle: bundle["dsseEnvelope"].update(signatures=[])),
        reason="it holds no signature",
    ),
    SignatureCase(
        name="signature-is-null",
        spoil=_edit(lambda bundle: bundle["dsseEnvelope"].update(signatures=[None])),
        reason="it is",
    ),
    SignatureCase(
        name="signature-is-empty",
        spoil=_edit(lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig="")),
        reason="it",
    ),
    SignatureCase(
        name="no-material",
        spoil=_edit(lambda bundle: bundle.pop("verificationMaterial") and None),
        reason="lacks 'verificationMaterial'",
    ),
    SignatureCase(
        name="empty-material",
        spoil=_edit(lambda bundle: bundle.update(verificationMaterial={})),
        reason="in 0 ways",
    ),
    SignatureCase(
        name="no-envelope", spoil=_edit(lambda bundle: bundle.pop("dsseEnvelope") and None), reason="'dsseEnvelope'"
    ),
    SignatureCase(
        name="other-media-type",
        spoil=_edit(lambda bundle: bundle.update(mediaType="application/json")),
        reason="mediaType",
    ),
    SignatureCase(
        name="payload-not-base64",
        spoil=_edit(lambda bundle: bundle["dsseEnvelope"].update(payload="!")),
        reason="not in base64",
    ),
    SignatureCase(
        name="payload-of-another-type",
        spoil=_edit(lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain")),
        reason="not of the type",
    ),
    SignatureCase(
        name="old-predicate",
        spoil=_restate(lambda statement: statement.update(predicateType="https://model_signing/Digests/v0.1")),
        reason="not of the type",
    ),
    SignatureCase(
        name="no-files",
        spoil=_restate(lambda statement: statement["predicate"].update(resources=[])),
        reason="what it signs was changed",
    ),
    SignatureCase(
        name="files-are-numbers",
        spoil=_restate(lambda statement: statement["predicate"].update(resources=[1])),
        reason="not as it should be",
    ),
    SignatureCase(
        name="file-twice",
        spoil=_restate(lambda s: s["predicate"].update(resources=s["predicate"]["resources"] * 2)),
        reason="twice",
    ),
    SignatureCase(
        name="statement-changed",
        spoil=_restate(lambda s: s["predicate"]["resources"][0].update(digest="ab" * 32)),
        reason="what it signs was changed",
    ),
    SignatureCase(name="statement-is-a-list", spoil=_restate(lambda statement: [1]), reason="not a JSON object"),
)


def _as_case(case: SignatureCase) -> Case:
    def write(folder: Path, canary: Path) -> Path:
        table = case.write(folder)
        content = (folder / MODEL).read_bytes()
        artifact = {
            "path": MODEL,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "format": "onnx",
            "recorded": {"how": "trust-on-first-use"},
            "signature": table,
        }
        document = {"lock-version": "1", "artifact": [artifact]}
        (folder / "models.lock").write_text(tomli_w.dumps(document), encoding="utf-8")
        return folder / MODEL

    return Case(row=case.row, name=f"signature-{case.name}", write=write, rules=frozenset({case.rule}))


CASES: tuple[Case, ...] = tuple(map(_as_case, SIGNATURES))
