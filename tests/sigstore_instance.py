"""A Sigstore of its own for tests: an authority, a log of certificates and a log of signatures, all in memory.

It issues what the public instance would issue, so that verification runs as a whole and without a network.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORIGIN = "rekor.example.org - 1"
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def octets(tag: int, data: bytes) -> bytes:
    """DER of a string."""
    length = bytes([len(data)]) if len(data) < 128 else bytes([0x81, len(data)])
    return bytes([tag]) + length + data


class SigstoreInstance:
    """Signs statements for whoever asks, ``now`` being the time on all its clocks."""

    def __init__(self, now: datetime.datetime | None = None) -> None:
        self.now = (now or datetime.datetime.now(datetime.UTC)).replace(microsecond=0)
        self.authority_key, self.certificate_log, self.signature_log = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(3)
        )
        self.authority = self._authority()

    def _authority(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sigstore for tests")])
        public = self.authority_key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - datetime.timedelta(days=1))
            .not_valid_after(self.now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(self._usage(key_cert_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.authority_key, hashes.SHA256())
        )

    @staticmethod
    def _usage(**used: bool) -> x509.KeyUsage:
        names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        unused = dict.fromkeys((*names, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
        return x509.KeyUsage(**{**unused, **used})

    def _certificate(self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str) -> x509.Certificate:
        """A certificate of ten minutes, as the log of certificates attests."""
        serial = x509.random_serial_number()

        def build(attested: bytes) -> x509.Certificate:
            return (
                x509.CertificateBuilder()
                .subject_name(x509.Name([]))
                .issuer_name(self.authority.subject)
                .public_key(key.public_key())
                .serial_number(serial)
                .not_valid_before(self.now)
                .not_valid_after(self.now + datetime.timedelta(minutes=10))
                .add_extension(self._usage(digital_signature=True), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key()), critical=False
                )
                .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(identity)]), critical=True)
                .add_extension(x509.UnrecognizedExtension(ISSUER_V1, issuer.encode()), critical=False)
                .add_extension(x509.UnrecognizedExtension(ISSUER_V2, octets(0x0C, issuer.encode())), critical=False)
                .add_extension(x509.UnrecognizedExtension(SCT_LIST, attested), critical=False)
                .sign(self.authority_key, hashes.SHA256())
            )

        return build(self._attest(build(self._attestation(bytes(70))).tbs_precertificate_bytes))

    def _attest(self, certificate: bytes) -> bytes:
        """RFC 6962: what the log signs of a certificate that it will hold."""
        issuer = hashlib.sha256(spki(self.authority_key)).digest()
        entry = issuer + struct.pack("!I", len(certificate))[1:] + certificate
        signed = struct.pack("!BBQH", 0, 0, self._milliseconds, 1) + entry + struct.pack("!H", 0)
        return self._attestation(sign(self.certificate_log, signed))

    def _attestation(self, signature: bytes) -> bytes:
        log = hashlib.sha256(spki(self.certificate_log)).digest()
        head = struct.pack("!B32sQHBBH", 0, log, self._milliseconds, 0, 4, 3, len(signature))
        timestamp = head + signature
        return octets(0x04, struct.pack("!HH", len(timestamp) + 2, len(timestamp)) + timestamp)

    @property
    def _milliseconds(self) -> int:
        return int(self.now.timestamp()) * 1000

    def sign(self, statement: bytes, identity: str, issuer: str) -> dict[str, Any]:
        """A bundle around an in-toto statement, signed with a fresh key in the name of ``identity``."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key, identity, issuer)
        kind = "application/vnd.in-toto+json"
        signature = sign(key, f"DSSEv1 {len(kind)} {kind} {len(statement)} ".encode() + statement)
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(der(certificate))},
                "tlogEntries": [self._entry(statement, signature, certificate)],
            },
            "dsseEnvelope": {
                "payload": b64(statement),
                "payloadType": kind,
                "signatures": [{"sig": b64(signature)}],
            },
        }

    def _entry(self, statement: bytes, signature: bytes, certificate: x509.Certificate) -> dict[str, Any]:
        """The only entry of the log of signatures, with the proof that it is in there."""
        verifier = b64(certificate.public_bytes(serialization.Encoding.PEM))
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(statement).hexdigest()},
            "signatures": [{"signature": b64(signature), "verifier": verifier}],
        }
        body = canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        root = hashlib.sha256(b"\0" + body).digest()
        log = hashlib.sha256(spki(self.signature_log)).digest()
        note = f"{ORIGIN}\n1\n{b64(root)}\n"
        signed_note = b64(log[:4] + sign(self.signature_log, note.encode()))
        seconds = int(self.now.timestamp())
        promise = canonical({"body": b64(body), "integratedTime": seconds, "logID": log.hex(), "logIndex": 0})
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(log)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": b64(sign(self.signature_log, promise))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n— {ORIGIN.split()[0]} {signed_note}\n"},
            },
            "canonicalizedBody": b64(body),
        }

    def trust_config(self) -> dict[str, Any]:
        """What a verifier must be given; of the public instance's, only the addresses are taken."""
        import sigstore

        store = Path(sigstore.__file__).parent / "_store" / "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
        start = {"start": (self.now - datetime.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log(self.signature_log, start)],
            "ctlogs": [self._log(self.certificate_log, start)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "tests", "commonName": "sigstore for tests"},
                    "uri": "https://fulcio.example.org",
                    "certChain": {"certificates": [{"rawBytes": b64(der(self.authority))}]},
                    "validFor": start,
                }
            ],
            "timestampAuthorities": [],
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": root,
            "signingConfig": json.loads((store / "signing_config.v0.2.json").read_text()),
        }

    @staticmethod
    def _log(key: ec.EllipticCurvePrivateKey, valid: dict[str, str]) -> dict[str, Any]:
        return {
            "baseUrl": "https://log.example.org",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": b64(spki(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": valid,
            },
            "logId": {"keyId": b64(hashlib.sha256(spki(key)).digest())},
        }


def canonical(values: dict[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
