"""The command line ``python -m reference_attacks``: its subcommands, and what a user sees of their errors.

A subcommand is a module with ``add_parser(subparsers)``, which registers a parser whose default ``run`` takes the
parsed arguments and returns the exit status. Subcommand modules import torch and matplotlib inside functions only, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pytest_backdoor.errors import BackdoorScanError

from .badnet import command as badnet
from .baselines import command as baselines
from .detectors import command as detectors
from .detectors.matrix import command as detection
from .metapoison import command as metapoison
from .poison_frogs import command as frogs
from .reproduce import command as reproduce
from .zoo import command as zoo

SUBCOMMANDS = (badnet, frogs, metapoison, zoo, detectors, detection, baselines, reproduce)
USAGE_ERROR = 2
INTERRUPTED = 130

DESCRIPTION = (
    "Build the attacked networks, and their clean twins, that calibrate and test pytest-backdoor. They are meant for "
    "the evaluation of detectors: each is written with a model card that says what was done to it."
)


class SentenceParser(argparse.ArgumentParser):
    """An argument parser that answers a bad argument with one sentence in place of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` with a pointer to the help, and exit with status 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message.rstrip('.')} (see {self.prog} --help).\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = SentenceParser(prog="python -m reference_attacks", description=DESCRIPTION, allow_abbrev=False)
    subparsers = parser.add_subparsers(title="subcommands", dest="subcommand", metavar="SUBCOMMAND", required=True)
    for module in SUBCOMMANDS:
        module.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for what the user can put right, 130 after Ctrl-C."""
    parsed = make_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    try:
        return run(parsed)
    except KeyboardInterrupt as interrupt:
        return _stop(INTERRUPTED, f"Interrupted: {interrupt}" if interrupt.args else "Interrupted.")
    except ModuleNotFoundError as error:
        needed = "Building reference attacks needs the 'attacks' extra: pip install 'pytest-backdoor[attacks]'"
        return _stop(USAGE_ERROR, f"{needed} ({error}).")
    except OSError as error:
        return _stop(USAGE_ERROR, _in_words(error))
    except (ValueError, BackdoorScanError) as error:
        return _stop(USAGE_ERROR, str(error))
    except RuntimeError as error:
        if type(error).__name__ != "DataNotFoundError":  # Its module imports torch: it cannot be named above.
            raise
        return _stop(USAGE_ERROR, str(error))


def _in_words(error: OSError) -> str:
    """The file first, without the number that the system gives the error."""
    return f"{error.filename}: {error.strerror}." if error.filename and error.strerror else str(error)


def _stop(status: int, sentence: str) -> int:
    print(f"python -m reference_attacks: {sentence}", file=sys.stderr)
    return status
