"""What the commands of a page need to be there: files by the names that the page uses, data sets, a Hub.

In a note, ``needs=models/digits.onnx:mnist-clean.onnx`` puts a file of ``docs/examples`` there under another name, and
``needs=hub`` names a function below. The digits of ``needs=samples.npz:mnist-digits.npz`` are cut out of MNIST.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hub_server import PROXIES, HubServer, client_environment, make_tls, serving
from page_blocks import ROOT
from PIL import Image

from reference_attacks.data import load_mnist

EXAMPLES = ROOT / "docs" / "examples"
DIGITS = "mnist-digits.npz"
OF_EACH_DIGIT = 20
HUB_COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA_SETS = {
    "mnist": "MNIST/raw",
    "cifar10": "cifar10",
    "gtsrb": "gtsrb",
    "road-signs": "road-signs",
    "gtsdb": "gtsdb",
}


def prepare(needs: list[str], folder: Path, environment: dict[str, str], stack: ExitStack) -> None:
    """Put what is needed into ``folder`` and ``environment``; ``stack`` ends what runs until the page is done."""
    for name in needs:
        if ":" in name:
            target, example = name.split(":")
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            if example == DIGITS:
                digits, labels = _digits()
                np.savez_compressed(folder / target, x=digits, y=labels)
            else:
                shutil.copyfile(EXAMPLES / example, folder / target)
        elif name in DATA_SETS:
            _data_set(DATA_SETS[name], folder, environment)
        else:
            stack.enter_context(SERVICES[name](folder, environment))


def _data_set(below: str, folder: Path, environment: dict[str, str]) -> None:
    root = _root_of(below)
    if not (folder / "data").exists():
        (folder / "data").symlink_to(root, target_is_directory=True)
    environment["BACKDOOR_DATA_ROOT"] = str(root)


def _root_of(below: str) -> Path:
    root = Path(os.environ.get("BACKDOOR_DATA_ROOT", ROOT / "data")).absolute()
    if not (root / below).exists():
        pytest.skip(f"{below} is not here: point BACKDOOR_DATA_ROOT at a folder that holds it")
    return root


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Test images of MNIST, as many of each digit, uint8 ``(N, 28, 28, 1)``, and their labels."""
    digits = load_mnist(_root_of(DATA_SETS["mnist"]), train=False)
    labels = digits.labels.numpy()
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:OF_EACH_DIGIT] for digit in range(10)])
    return digits.images.permute(0, 2, 3, 1).numpy()[chosen], labels[chosen]


@contextmanager
def _examples(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """The example models where they lie in a copy of the repository, with the lock file."""
    shutil.copytree(EXAMPLES, folder / "docs" / "examples", dirs_exist_ok=True)
    shutil.copyfile(ROOT / "models.lock", folder / "models.lock")
    (folder / "pyproject.toml").touch()
    yield


@contextmanager
def _hub(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A Hub on this machine with ``owner/repo``, which holds ``model.onnx`` in one commit, today's ``main``."""
    certificates = folder.parent / "hub-certificates"
    certificates.mkdir()
    tls, trusted = make_tls(certificates)
    server = HubServer()
    server.add("owner/repo", {})
    files = {"model.onnx": (EXAMPLES / "mnist-clean.onnx").read_bytes()}
    server.repos["owner/repo"].commits[HUB_COMMIT] = files
    server.repos["owner/repo"].refs["main"] = HUB_COMMIT
    with serving(server, tls):
        for name in PROXIES:
            environment.pop(name, None)
            environment.pop(name.upper(), None)
        environment.update(client_environment(server.address, folder.parent / "hub-home", trusted))
        yield


@contextmanager
def _folders(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """``train/`` and ``clean/``: digits as pictures in one folder for each class."""
    digits, labels = _digits()
    for number, (digit, label) in enumerate(zip(digits, labels, strict=True)):
        path = folder / ("train" if number % 2 else "clean") / str(label) / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit[..., 0]).save(path)
    yield


@contextmanager
def _street(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """``street.jpg``: one of the photographs."""
    (path,) = (Path(environment["BACKDOOR_DATA_ROOT"]) / "road-signs" / "images").glob("road0.*")
    with Image.open(path) as photograph:
        photograph.convert("RGB").save(folder / "street.jpg")
    yield


@contextmanager
def _summary(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A step of GitHub Actions that has written ``scan.md``."""
    (folder / "scan.md").write_text("No model was scanned.\n", encoding="utf-8")
    environment["GITHUB_STEP_SUMMARY"] = str(folder / "summary.md")
    yield


@contextmanager
def _git(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """The page's folder is a git repository."""
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    yield


SERVICES: dict[str, Callable[[Path, dict[str, str]], AbstractContextManager[None]]] = {
    "examples": _examples,
    "hub": _hub,
    "folders": _folders,
    "git": _git,
    "street": _street,
    "summary": _summary,
}
