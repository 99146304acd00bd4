"""Verifying a bundle with ``model_signing``, which this module imports: whoever imports it needs the extra.

Only the signature is verified by that library. It would hash the model again, by its path: what it hashed might not be
what is loaded, files that the signer chose to ignore would not be hashed at all, and links as in the Hub's cache would
be refused. So it is handed the signed list as if it had hashed that, and the caller compares the list with the digests
of the bytes that it loads.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.exceptions import InvalidSignature
from model_signing import hashing, manifest, verifying
from model_signing._hashing.hashing import Digest
from OpenSSL.crypto import X509StoreContextError

from ._bundle import Bundle
from ._errors import UnverifiedError
from ._methods import Prepared

MOST_DETAIL = 300  # characters of an error of the library


def verify(content: bytes, bundle: Bundle, prepared: Prepared) -> None:
    """Verify the signature in ``content``, of which ``bundle`` was read. Raises UnverifiedError, and nothing else."""
    try:
        with TemporaryDirectory(prefix="pytest-backdoor-") as name:
            _verify(Path(name), content, bundle, prepared)
    except Exception as error:  # see the many types in _reason; none of them may pass and none may end the scan
        raise UnverifiedError(_reason(error), "Get the signature and the model from the publisher again.") from error


def _verify(folder: Path, content: bytes, bundle: Bundle, prepared: Prepared) -> None:
    # Copies that nobody else can write: what was read and compared above is what is verified here.
    for name, data in prepared.files.items():
        (folder / name).write_bytes(data)
    signature = folder / "bundle.json"
    signature.write_bytes(content)
    config = verifying.Config()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # It logs with a method of the standard library that is deprecated, and prints about old bundles.
        warnings.filterwarnings("ignore", "The 'warn' method is deprecated", DeprecationWarning)
        prepared.configure(config, folder)
        config.set_hashing_config(_SignedList(bundle)).verify(folder, signature)


class _SignedList(hashing.Config):
    """Gives the list of the bundle in place of hashes, which the library compares with the list that it verified.

    So both have read the same list out of the bundle, or the verification fails.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bundle = bundle

    def hash(
        self, model_path: hashing.PathLike, *, files_to_hash: Iterable[hashing.PathLike] | None = None
    ) -> manifest.Manifest:
        """The list as a manifest; reads no file."""
        kind = manifest.SerializationType.from_args(dict(self._bundle.serialization))
        items = [
            kind.new_item(name, Digest(algorithm, bytes.fromhex(value)))
            for name, (algorithm, value) in self._bundle.resources.items()
        ]
        return manifest.Manifest("", items, kind)


def _reason(error: Exception) -> str:
    """What the library meant, in plain words.

    Seen so far: ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError and JSONDecodeError for
    malformed bundles, those of cryptography and pyOpenSSL for wrong signatures, and those of sigstore.
    """
    detail = " ".join(str(error).split())[:MOST_DETAIL] or type(error).__name__
    if isinstance(error, InvalidSignature):
        return "it was not made with this key, or what it signs was changed"
    if isinstance(error, X509StoreContextError):
        return f"its certificate does not come from the given chain ({detail})"
    if type(error).__module__.startswith("sigstore."):
        return f"Sigstore does not accept it ({detail})"
    if isinstance(error, ValueError):
        return f"it is not accepted ({detail})"
    return f"it is malformed ({type(error).__name__}: {detail})"
