"""Why a signature does not count."""

from __future__ import annotations


class SignatureError(Exception):
    """The reason, as a clause that follows a colon. ``remedy``: what to do, as sentences. ``rule``: in ``rules``."""

    rule = "signature-not-verified"

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


class MissingError(SignatureError):
    """There is no signature."""

    rule = "signature-missing"


class UnverifiedError(SignatureError):
    """The signature does not prove what it should."""


class WrongIdentityError(SignatureError):
    """Somebody else signed, or with another key."""

    rule = "signature-wrong-identity"
