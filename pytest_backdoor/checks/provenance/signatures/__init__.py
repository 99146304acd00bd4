"""Was the model signed by who it should be? Answered offline, of the bytes that were hashed already."""

from __future__ import annotations

from ._check import signature_problems
from ._methods import METHODS

__all__ = ["METHODS", "signature_problems"]
