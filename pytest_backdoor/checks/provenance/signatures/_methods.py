"""The three ways to sign: what an entry must say for each, and whether the bundle says the same of its signer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._bundle import Bundle
from ._certificates import (
    certificates,
    issuers_of,
    key_sha256,
    load_key,
    names_of,
    require_valid_now,
    sigstore_issuers_of,
)
from ._errors import UnverifiedError, WrongIdentityError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from model_signing.verifying import Config

# Reads one of the files that an entry names, given its path in the entry.
Read = Callable[[str], bytes]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """``files``: what the verifier reads, by name. ``configure``: sets a verifier up, given the folder of those."""

    files: Mapping[str, bytes]
    configure: Callable[[Config, Path], Any]


def prepare_key(signature: Mapping[str, Any], bundle: Bundle, read: Read) -> Prepared:
    """For a signature with a key. Raises SignatureError."""
    pem = read(_required(signature, "key"))
    found = key_sha256(load_key(pem))
    _require_key(signature, found, "the key file holds another key than the entry names")
    public = bundle.material.get("publicKey")
    hint = public.get("hint") if isinstance(public, dict) else None
    if hint and hint != found:
        raise WrongIdentityError(
            f"it was made with another key (SHA-256 {hint}) than the given one ({found})",
            "Ask the publisher which key is theirs.",
        )
    return Prepared(
        files={"key.pem": pem},
        configure=lambda config, folder: config.use_elliptic_key_verifier(public_key=folder / "key.pem"),
    )


def prepare_certificate(signature: Mapping[str, Any], bundle: Bundle, read: Read) -> Prepared:
    """For a signature with a certificate. Raises SignatureError."""
    chain = signature.get("chain")
    if not chain:  # without it, any certificate of any public authority would do
        raise UnverifiedError("the entry names no chain", "Add chain = [...] with the authority's certificates in PEM.")
    if "identity" not in signature and "key-sha256" not in signature:
        raise UnverifiedError(
            "the entry does not say whose certificate is expected", "Add identity or key-sha256 to its signature."
        )
    found = certificates(bundle.material)
    _require_key(signature, key_sha256(found[0].public_key()), "its certificate is for another key")
    _require_signer(signature, found[0], issuers_of(found[0]))
    require_valid_now(found)
    names = [f"chain-{number}.pem" for number in range(len(chain))]
    return Prepared(
        files=dict(zip(names, map(read, chain), strict=True)),
        configure=lambda config, folder: config.use_certificate_verifier(
            certificate_chain=[folder / name for name in names]
        ),
    )


def prepare_sigstore(signature: Mapping[str, Any], bundle: Bundle, read: Read) -> Prepared:
    """For a signature by Sigstore. Raises SignatureError."""
    identity, issuer = _required(signature, "identity"), _required(signature, "issuer")
    if "trust-config" not in signature:
        raise UnverifiedError(
            "the entry names no trust-config, and Sigstore's own is fetched over the network, which a scan does not do",
            "Save Sigstore's trusted root and signing configuration beside the lock file and name it as trust-config.",
        )
    trust = read(_required(signature, "trust-config"))
    signer = certificates(bundle.material)[0]
    _require_signer(signature, signer, sigstore_issuers_of(signer))
    return Prepared(
        files={"trust.json": trust},
        configure=lambda config, folder: config.use_sigstore_verifier(
            identity=identity, oidc_issuer=issuer, trust_config=folder / "trust.json"
        ),
    )


METHODS: Mapping[str, Callable[[Mapping[str, Any], Bundle, Read], Prepared]] = {
    "key": prepare_key,
    "certificate": prepare_certificate,
    "sigstore": prepare_sigstore,
}


def _required(signature: Mapping[str, Any], key: str) -> str:
    value = signature.get(key)
    if not isinstance(value, str) or not value:
        raise UnverifiedError(f"the entry does not say its {key!r}", f"Add {key} to the entry's signature.")
    return value


def _require_key(signature: Mapping[str, Any], found: str, reason: str) -> None:
    expected = signature.get("key-sha256", found)
    if expected != found:
        raise WrongIdentityError(f"{reason}: SHA-256 {found} instead of {expected}", "Ask the publisher for their key.")


def _require_signer(signature: Mapping[str, Any], certificate: Certificate, issuers: Collection[str]) -> None:
    """Compare what the certificate says; that it is genuine is verified afterwards."""
    for what, expected, found in (
        ("identity", signature.get("identity"), names_of(certificate)),
        ("issuer", signature.get("issuer"), issuers),
    ):
        if expected is not None and expected not in found:
            raise WrongIdentityError(
                f"the {what} of its signer is {' or '.join(sorted(found)) or 'not stated'} instead of {expected}",
                "Ask the publisher who signs their models.",
            )
