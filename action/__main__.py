"""The steps of the GitHub Action: ``python action STEP``, each told by environment variables, as action.yml says.

Only the standard library is used: the steps run before anything is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from conclude import conclude
from inputs import UsageError
from install import install
from prepare import prepare
from scan import scan
from workflow import annotate, write_outputs

Step = Callable[[Mapping[str, str]], int]
STEPS: Mapping[str, Step] = {"prepare": prepare, "install": install, "scan": scan, "conclude": conclude}
USAGE_ERROR = 4


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one step and return its exit status; a wrong input is an error that names the input."""
    (step,) = arguments
    try:
        return STEPS[step](environment)
    except UsageError as error:
        annotate("error", "Backdoor scan: wrong input", str(error))
        write_outputs(environment, {"verdict": "error", "findings": "0", "exit-code": str(USAGE_ERROR)})
        return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
