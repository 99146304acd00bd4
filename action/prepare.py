"""The first step: read the inputs and the event, and decide where everything goes."""

from __future__ import annotations

import hashlib
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from inputs import Inputs, keep_inputs, read_inputs
from workflow import is_trusted, write_outputs

HERE = Path(__file__).resolve().parent
PINNED = (HERE / "requirements.txt", HERE / "torch.txt")


def prepare(environment: Mapping[str, str]) -> int:
    """Set the outputs that the other steps and their conditions use. Raises UsageError for a wrong input."""
    inputs = read_inputs(environment)
    # Each use of the action has its own folder: a job may have several, and what one wrote is not the other's.
    folder = Path(tempfile.mkdtemp(prefix="pytest-backdoor-", dir=environment.get("RUNNER_TEMP") or None))
    keep_inputs(environment, folder)
    trusted = is_trusted(environment)
    if not trusted and (inputs.upload_report or inputs.upload_sarif):
        print("The code is from a fork, so no report is uploaded; the job summary has the findings.")
    write_outputs(
        environment,
        {
            "folder": str(folder),
            "report-name": _report_name(inputs, environment, folder),
            "upload-report": str(trusted and inputs.upload_report).lower(),
            "upload-sarif": str(trusted and inputs.upload_sarif).lower(),
            "cache-path": str(_cache_folder(environment)),
            "cache-key": _cache_key(inputs),
        },
    )
    return 0


def _report_name(inputs: Inputs, environment: Mapping[str, str], folder: Path) -> str:
    """The artifact's name; GitHub takes a name once for all jobs of a run, those of a matrix included."""
    token = folder.name.removeprefix("pytest-backdoor-")
    return inputs.report_name or f"backdoor-report-{environment.get('GITHUB_JOB', 'job')}-{token}"


def _cache_folder(environment: Mapping[str, str]) -> Path:
    """The folder of downloaded packages: the same in every run, or the cache would not be found."""
    return Path(environment.get("RUNNER_TEMP") or tempfile.gettempdir()) / "pytest-backdoor-packages"


def _cache_key(inputs: Inputs) -> str:
    """Packages are cached, verdicts never: a branch could write one that another branch would believe."""
    pinned = b"".join(path.read_bytes() for path in PINNED) + f"{inputs.version}|{inputs.torch_index}".encode()
    digest = hashlib.sha256(pinned).hexdigest()[:16]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"pytest-backdoor-{platform.system()}-{platform.machine()}-python{version}-{digest}"
