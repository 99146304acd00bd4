"""Errors whose text a user reads: a sentence that names the file and the remedy."""

from __future__ import annotations


class BackdoorScanError(Exception):
    """Base of all errors that this package raises on purpose."""


class SettingsError(BackdoorScanError):
    """An option, a setting or an argument is wrong; nothing was scanned."""


class ModelError(BackdoorScanError):
    """The model file cannot be audited: unreadable, malformed, refused or not an image classifier."""


class NotAssessableError(BackdoorScanError):
    """A check does not apply to this model or lacks what it needs; the text says what that is.

    ``remedy``: what to do about it, as sentences, where the text does not say it already.
    """

    def __init__(self, text: str, *, remedy: str = "") -> None:
        super().__init__(text)
        self.remedy = remedy


class NotDifferentiableError(NotAssessableError):
    """A model has no gradients that can be trusted, so that only searches without them are left."""


class LockError(BackdoorScanError):
    """The lock file cannot be read or is not valid."""
