"""Is this the model file that was listed in ``models.lock``, with all its external data?"""

from ._check import ProvenanceCheck
from ._lockfile import default_lock_path

__all__ = ["ProvenanceCheck", "default_lock_path"]
