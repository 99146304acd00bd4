"""From the ``signature`` table of a lock file's entry to what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_backdoor.errors import ModelError
from pytest_backdoor.findings import Problem
from pytest_backdoor.models._format import open_regular

from .._names import name_problem
from ._bundle import MAX_BYTES, Bundle, file_key, read_bundle
from ._errors import MissingError, SignatureError, UnverifiedError
from ._methods import METHODS, Prepared

INSTALL = "pip install 'pytest-backdoor[signing]'"


def signature_problems(signature: Mapping[str, Any], *, folder: Path, files: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the signature of a model; nothing if who should have signed did sign what is loaded.

    ``signature``: the entry's table, whose paths are relative to ``folder``. ``files``: the model, then its external
    data, by their names in the lock file, each with the SHA-256 of the bytes that are loaded. Other files that are
    signed too are not looked at. Raises nothing on account of a bad bundle; reads no network.
    """
    model = next(iter(files))
    try:
        _verify(signature, folder, files)
    except SignatureError as error:
        bundle = signature.get("bundle")
        which = f"The signature {bundle} of {model}" if isinstance(bundle, str) else f"The signature of {model}"
        state = "is missing" if isinstance(error, MissingError) else "is not verified"
        remedy = error.remedy or "Get the signature and the model from the publisher again."
        return [Problem(rule=error.rule, message=f"{which} {state}: {error}.", remedy=remedy, path=model)]
    return []


def _verify(signature: Mapping[str, Any], folder: Path, files: Mapping[str, str]) -> None:
    method = signature.get("method")
    if method not in METHODS:
        raise UnverifiedError(f"there is no method {method!r}", f"Use one of {', '.join(METHODS)}.")
    if not signature.get("bundle"):
        raise MissingError(
            "the entry requires one and names no bundle", 'Add bundle = "..." to the entry\'s signature.'
        )
    content = _read(folder, signature["bundle"], missing=MissingError)
    bundle = read_bundle(content)
    _verify_bundle(content, bundle, _prepare(signature, bundle, folder))
    _require_covered(bundle, files)


def _prepare(signature: Mapping[str, Any], bundle: Bundle, folder: Path) -> Prepared:
    try:
        return METHODS[signature["method"]](signature, bundle, lambda name: _read(folder, name))
    except ImportError as error:
        raise _not_installed(error) from error
    except SignatureError:
        raise
    except Exception as error:  # certificates and keys of somebody else, read by another library
        raise UnverifiedError(f"it is malformed ({type(error).__name__}: {error})") from error


def _verify_bundle(content: bytes, bundle: Bundle, prepared: Prepared) -> None:
    try:
        from ._model_signing import verify
    except ImportError as error:
        raise _not_installed(error) from error
    verify(content, bundle, prepared)


def _not_installed(error: ImportError) -> UnverifiedError:
    return UnverifiedError(f"what verifies it is not installed ({error})", f"Install it: {INSTALL}")


def _read(folder: Path, name: Any, missing: type[SignatureError] = UnverifiedError) -> bytes:
    """A file that the entry names, read once."""
    problem = name_problem(name) if isinstance(name, str) else "is not a path"
    if problem:
        raise UnverifiedError(f"the path {name!r} in the entry {problem}", "Correct it.")
    path = folder / name
    if not path.exists():
        raise missing(f"there is no file {name}", f"Put it there, or correct the entry: {path}")
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_BYTES + 1)
    except ModelError as error:
        raise UnverifiedError(str(error).rstrip(".")) from error
    if len(content) > MAX_BYTES:
        raise UnverifiedError(f"{name} is larger than {MAX_BYTES >> 20} MiB")
    return content


def _require_covered(bundle: Bundle, files: Mapping[str, str]) -> None:
    """Check that the signed list names every file with the digest of what is loaded.

    Its paths begin at the signed folder, which is any folder above the model, or is ``.`` for a single signed file.
    """
    model = next(iter(files))
    if set(bundle.resources) == {"."} and len(files) == 1:
        _require_digest(bundle, ".", model, files[model])
        return
    root = next((root for root in _roots(model) if file_key(model.removeprefix(root)) in bundle.resources), None)
    if root is None:
        raise UnverifiedError(f"it does not sign {model}", "Name the bundle that was made for this model.")
    for name, sha256 in files.items():
        _require_digest(bundle, name.removeprefix(root), name, sha256)


def _roots(name: str) -> Iterator[str]:
    """The folders above a name, each with its slash, the uppermost first.

    So what is compared is the longest signed path: a file must not pass for one of the same name in a folder above it.
    """
    folders = name.split("/")[:-1]
    for count in range(len(folders) + 1):
        yield "".join(f"{folder}/" for folder in folders[:count])


def _require_digest(bundle: Bundle, signed: str, name: str, sha256: str) -> None:
    expected = bundle.digest(file_key(signed))
    if expected is None:
        raise UnverifiedError(f"it does not sign {name}", "Ask the publisher to sign all files of the model.")
    if expected != sha256:
        raise UnverifiedError(f"it signs other content of {name}: SHA-256 {expected}, found {sha256}")
