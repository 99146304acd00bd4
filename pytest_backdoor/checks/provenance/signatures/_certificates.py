"""Public keys and certificates: whose they are and whether they may sign."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._bundle import require_known
from ._errors import UnverifiedError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CURVES = ("secp256r1", "secp384r1", "secp521r1")
# Where Sigstore's certificates say who vouched for the signer: the older form is plain text, the newer one DER.
_SIGSTORE_ISSUER, _SIGSTORE_ISSUER_V2 = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8"


def load_key(pem: bytes) -> Any:
    """A public key in PEM. Raises UnverifiedError."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(pem)
    except Exception as error:
        raise UnverifiedError(f"the key cannot be read ({type(error).__name__})", "Give a public key in PEM.") from None


def key_sha256(key: Any) -> str:
    """The SHA-256 of a public key in PEM, however its file is wrapped; bundles name their key by it.

    Raises UnverifiedError for keys that do not sign models: only those on the curves P-256, P-384 and P-521 do.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise UnverifiedError(
            "its key is of a kind that is not accepted", "Sign with an elliptic-curve key on P-256, P-384 or P-521."
        )
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def certificates(material: Mapping[str, Any]) -> list[Certificate]:
    """The certificates in a bundle, that of the signer first. Raises UnverifiedError."""
    from cryptography.x509 import load_der_x509_certificate

    chain = material.get("x509CertificateChain")
    entries: Any = chain.get("certificates") if isinstance(chain, dict) else [material.get("certificate")]
    if isinstance(chain, dict):
        require_known(chain, {"certificates"})
    try:
        for entry in entries:
            require_known(entry, {"rawBytes"})
        loaded = [load_der_x509_certificate(base64.b64decode(entry["rawBytes"], validate=True)) for entry in entries]
    except (TypeError, KeyError, ValueError, binascii.Error):
        loaded = []
    if not loaded:
        raise UnverifiedError("it holds no certificate that can be read")
    return loaded


def require_valid_now(chain: list[Certificate]) -> None:
    """Refuse certificates that have run out: nothing in such a bundle proves that it was signed before.

    ``model_signing`` looks at the day on which the signer's certificate began instead, so it accepts them for ever.
    """
    now = datetime.datetime.now(datetime.UTC)
    for certificate in chain:
        if now < certificate.not_valid_before_utc:
            raise UnverifiedError(f"a certificate in it is not valid until {certificate.not_valid_before_utc:%Y-%m-%d}")
        if now > certificate.not_valid_after_utc:
            raise UnverifiedError(
                f"a certificate in it ran out on {certificate.not_valid_after_utc:%Y-%m-%d} and there is no time "
                "assurance: nothing proves that it signed before",
                "Ask the publisher for a new signature.",
            )


def names_of(certificate: Certificate) -> set[str]:
    """Whose certificate it is: mail addresses, addresses and host names, and the common name where there are none."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        kinds = (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName)
        found = {str(name) for kind in kinds for name in names.get_values_for_type(kind)}
    except (x509.ExtensionNotFound, ValueError):
        found = set()
    return found or _common_names(certificate.subject)


def issuers_of(certificate: Certificate) -> set[str]:
    """Who vouches for it: the name of the issuing authority, in full and its common name."""
    return {certificate.issuer.rfc4514_string(), *_common_names(certificate.issuer)}


def sigstore_issuers_of(certificate: Certificate) -> set[str]:
    """The OpenID Connect issuer that vouched for the signer of a Sigstore certificate."""
    from cryptography import x509

    found = set()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.UnrecognizedExtension):
            value = extension.value.value
            if extension.oid.dotted_string == _SIGSTORE_ISSUER:
                found.add(value.decode("utf-8", "replace"))
            elif extension.oid.dotted_string == _SIGSTORE_ISSUER_V2:
                found.add(_der_text(value))
    return found


def _common_names(name: Any) -> set[str]:
    from cryptography.x509 import NameOID

    return {str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)}


def _der_text(value: bytes) -> str:
    """The text of a DER string; its length stands in one byte, or in as many as the byte after the tag says."""
    wide = value[1] & 0x7F if len(value) > 1 and value[1] & 0x80 else 0
    return value[2 + wide :].decode("utf-8", "replace")
