"""The arguments of the command line."""

from __future__ import annotations

import argparse

from .. import __version__
from ..checks.provenance._digests import ALGORITHMS, SHA256_PREFIX
from ..checks.provenance._published import KINDS
from ..rules import RULES

PATH_HELP = "model file, or hf://owner/repo@commit/file"


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``pytest-backdoor``."""
    parser = argparse.ArgumentParser(prog="pytest-backdoor", description="Keep the lock file of audited models.")
    parser.add_argument("--version", action="version", version=f"pytest-backdoor {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    examples = commands.add_parser("examples", help="copy two digit classifiers to try it on, one with a backdoor")
    examples.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="where to (default: here)")
    lock = commands.add_parser("lock", help="list models in models.lock and verify them")
    actions = lock.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="list models as they are now, with size and SHA-256")
    add.add_argument("paths", nargs="+", metavar="PATH", help=PATH_HELP)
    update = actions.add_parser("update", help="replace the entry of one model by what it is now")
    update.add_argument("paths", nargs=1, metavar="PATH", help=PATH_HELP)
    for action in (add, update):
        _add_hash(action)
    lists = actions.add_parser("import", help="list the models that a publisher's list of hashes names")
    _add_lists(lists)
    for action in (add, update, lists):
        _add_origin(action)
        action.add_argument("--allow-ci", action="store_true", help="write even where the variable CI is set")
    check = actions.add_parser("check", help="compare files, entries and the project's code with models.lock")
    _add_checks(check)
    show = actions.add_parser("list", help="print what models.lock lists")
    for action in (add, update, lists, check, show):
        action.add_argument(
            "--lock",
            metavar="FILE",
            help="the lock file (default: models.lock in the nearest folder, from here upwards, that has one or a "
            "pyproject.toml or .git; else here)",
        )
    return parser


def _add_hash(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--published-hash",
        metavar="ALGORITHM:VALUE",
        help=f"the hash that the publisher states ({', '.join(ALGORITHMS)}); the file must have it",
    )


def _add_lists(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "paths",
        nargs="+",
        metavar="FILE",
        help="a file of sha256sum, a .dvc file, a README in Caffe's style, or a model named name-<hash>.pth",
    )
    action.add_argument("--as", dest="kind", choices=KINDS, help="what the files are (default: told by their content)")
    action.add_argument(
        "--algorithm",
        choices=[name for name in ALGORITHMS if name not in (SHA256_PREFIX, "git-blob-sha1")],
        default="sha256",
        help="of checksum files whose lines do not name it (default: %(default)s)",
    )
    action.add_argument("--ignore-missing", action="store_true", help="leave out files that are listed but not here")


def _add_origin(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="where the file was fetched: hf://owner/repo@revision/file, https://..., or torch-hub:https://... and "
        "keras:https://... for files in the cache of these; a revision of the Hub is resolved to its commit and the "
        "file compared with the hash that the Hub states",
    )
    action.add_argument(
        "--trust-on-first-use", action="store_true", help="record the file although nobody published its hash"
    )
    action.add_argument(
        "--signature",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="require a signature; repeat for method (key, certificate or sigstore), bundle, key, chain, identity, "
        "issuer, trust-config",
    )
    excusable = ", ".join(rule.name for rule in RULES.values() if rule.excusable)
    action.add_argument(
        "--allow", action="append", default=[], metavar="RULE", help=f"allow a rule to be broken: {excusable}"
    )
    action.add_argument("--reason", action="append", default=[], metavar="TEXT", help="why, for each --allow")
    action.add_argument("--until", action="append", default=[], metavar="DATE", help="last day, for each --allow")


def _add_checks(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="models to compare, or folders to look through too (default: all that are listed, and the code)",
    )
    action.add_argument("--online", action="store_true", help="compare models from the Hub with the Hub too")
    action.add_argument("--no-code", action="store_true", help="do not look at the project's Python files")
    action.add_argument(
        "--strict", action="store_true", help="fail for calls too of which the code does not tell what they fetch"
    )
    action.add_argument(
        "--since", metavar="REVISION", help="also print what changed since this git revision; fail if it asks for less"
    )
