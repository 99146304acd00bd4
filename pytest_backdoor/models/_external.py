"""Where the files of a model may lie: external data below its folder, links only within the cache of Hugging Face."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pytest_backdoor.errors import ModelError
from pytest_backdoor.findings import Problem

from ._reading import FileContent, read_file


class ExternalDataError(ModelError):
    """The model names external data that must not be opened; that is a finding of its own, not a broken file.

    ``problem``: the rule that it breaks.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.message} {problem.remedy}")
        self.problem = problem


def read_external(model: Path, location: str, display: str, *, keep: int) -> FileContent | None:
    """The external data that the model at ``model`` calls ``location``; None if there is no such file.

    ``location``: relative, with ``/`` and without ``..``. ``display``: the model's name in reports. ``keep``: see
    ``read_file``. Raises ExternalDataError if it lies elsewhere, is no plain file of its own or cannot be read.
    """
    path = model.parent / location
    name = f"{beside(display, location)}, external data of {display},"
    real = Path(os.path.realpath(path))
    in_cache = any(real.is_relative_to(folder) for folder in _hub_blobs(model))
    if not in_cache and not real.is_relative_to(os.path.realpath(model.parent)):
        raise _refusal(
            "external-data-outside",
            f"{name} is or lies behind a link that leads out of the model's folder.",
            "Replace the link by the file it should be.",
            display,
        )
    try:
        state = os.stat(path)
        if stat.S_ISREG(state.st_mode):
            # The path that was judged, and not one that a link could lead elsewhere by now.
            content = read_file(real, keep=keep)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ModelError as error:  # it is sparse, or changed meanwhile
        raise _refusal("unsafe-path", f"{name} is refused: {error}", "Get the published file.", display) from error
    except (OSError, ValueError) as error:
        raise _refusal("unsafe-path", f"{name} cannot be read ({error}).", "Check the file.", display) from error
    if not stat.S_ISREG(state.st_mode):
        raise _refusal("unsafe-path", f"{name} is not a regular file.", "Put the file in its place.", display)
    if content.linked and not in_cache:
        raise _refusal(
            "unsafe-path", f"{name} is a hard link to a file with another name too.", "Replace it by a copy.", display
        )
    return content


def path_problems(path: Path, display: str, root: Path | None) -> list[Problem]:
    """What is wrong with the name of a model file and with where its links lead.

    ``root``: the folder that the lock file and the settings belong to. A model that lies in it must not be a link out
    of it, unless it is a file of the cache of Hugging Face: such a link is in no commit that anybody could review.
    """
    if not (path.name.isprintable() and display.isprintable()):
        message = f"{display} has a name that is no printable text."
        return [Problem(rule="unsafe-path", message=message, remedy="Rename the file.", path=display)]
    if root is None or not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)):
        return []
    real = Path(os.path.realpath(path))
    allowed = [Path(os.path.realpath(root)), *_hub_blobs(path)]
    if any(real.is_relative_to(folder) for folder in allowed):
        return []
    message = f"{display} is or lies behind a link that leads out of {root}."
    remedy = "Name the file that it leads to, or put a copy in its place."
    return [Problem(rule="unsafe-path", message=message, remedy=remedy, path=display)]


def beside(display: str, location: str) -> str:
    """The name in reports of what the model ``display`` calls ``location``."""
    folder, slash, _ = display.replace(os.sep, "/").rpartition("/")
    return folder + slash + location


def _refusal(rule: str, message: str, remedy: str, display: str) -> ExternalDataError:
    return ExternalDataError(Problem(rule=rule, message=message, remedy=remedy, path=display))


def _hub_blobs(model: Path) -> list[Path]:
    """Where links beside ``model`` may lead if it is a file of a Hugging Face cache, else nowhere.

    Such a model is itself a link, from ``snapshots/`` into ``blobs/`` of its repository; newer caches link on from
    there into a store that all repositories share.
    """
    absolute = Path(os.path.abspath(model))
    snapshots = next((parent for parent in absolute.parents if parent.name == "snapshots"), None)
    if snapshots is None or not absolute.is_symlink():
        return []
    repository = snapshots.parent
    target = absolute.parent / os.readlink(absolute)
    if os.path.realpath(target.parent) != os.path.realpath(repository / "blobs"):
        return []
    folders = [repository / "blobs"]
    if repository.name.startswith("models--"):
        folders.append(repository.parent / "blobs")
    # A folder that is a link itself could lead anywhere.
    return [Path(os.path.realpath(folder)) for folder in folders if folder.is_dir() and not folder.is_symlink()]
