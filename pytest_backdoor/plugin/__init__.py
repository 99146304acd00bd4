"""The pytest plugin: options, marker and fixtures. What scans is imported once a run scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..findings import ScanReport
    from ._marker import ScanFunction

MARKER = (
    "backdoor_scan(model, **settings): scan a model file before the test; the test fails unless the model is clean. "
    "The backdoor_report fixture holds the report."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--backdoor-*`` options; their defaults live in the settings, so that pyproject.toml can give them."""
    group = parser.getgroup("backdoor", "backdoor scan of neural networks")
    add = group.addoption
    add(
        "--backdoor-scan",
        action="store_true",
        help="Scan the models among the arguments (.onnx, .pt, .pth, .safetensors, folders, globs, "
        "hf://owner/repo@revision/file), or, if nothing is typed, those listed in pyproject.toml",
    )
    add(
        "--backdoor-checks",
        metavar="A,B",
        help="Checks to run; default: all that are installed, training-data only where there is a training set",
    )
    add(
        "--backdoor-data",
        metavar="PATH",
        help="Clean samples: a folder CLASS/IMAGE.png, or an .npz file with x (uint8, or float in [0, 1]; NHWC or "
        "NCHW) and optionally y",
    )
    add(
        "--backdoor-train-data",
        metavar="PATH",
        help="The training set of the models, in the same forms, with labels, for the training-data check",
    )
    add("--backdoor-pack", metavar="FILE", help="Detector pack to use in place of the shipped ones")
    add(
        "--backdoor-families",
        metavar="A,B",
        help="Trigger families that the reversal check covers: patch, source-patch, pixels, blend, wave, warp; "
        "default: all but source-patch",
    )
    add(
        "--backdoor-fpr",
        metavar="RATE",
        type=float,
        help="False-positive rate of the gate, shared out among the checks; default: 0.01",
    )
    add(
        "--backdoor-report",
        metavar="FILE",
        action="append",
        help="Write a report; the extension chooses the format (.html, .json, .sarif, .md); may be repeated",
    )
    add(
        "--backdoor-lock",
        metavar="FILE",
        help="Lock file with the hashes; default: models.lock in pytest's root folder, where there is one",
    )
    add(
        "--backdoor-allow-unverified",
        action="store_true",
        default=None,
        help="Accept models on which no check of behaviour could be made; relaxes nothing else",
    )
    add(
        "--backdoor-timeout",
        metavar="S",
        type=float,
        help="Seconds for the scan of one model; default: 600, 0 for no limit",
    )
    add(
        "--backdoor-memory",
        metavar="MB",
        type=int,
        help="Memory that the scan of one model may allocate; default: 8192, 0 for no limit; without effect on Windows "
        "and macOS",
    )
    add(
        "--backdoor-seed",
        metavar="N",
        type=int,
        help="Seed of everything random: the same one gives the same report; default: 0",
    )
    add("--backdoor-device", metavar="DEVICE", help="cpu, cuda, cuda:1 or mps, for checks with gradients; default: cpu")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what scans if this run scans or writes reports."""
    config.addinivalue_line("markers", MARKER)
    if config.option.backdoor_scan or config.option.backdoor_report:
        from ._run import activate

        activate(config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Scan the models that the test's marks name."""
    if item.get_closest_marker("backdoor_scan"):
        from ._marker import scan_marked

        scan_marked(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a marked test, instead of running it, if its model did not pass."""
    if item.get_closest_marker("backdoor_scan"):
        from ._marker import require_passed

        require_passed(item)


@pytest.fixture
def backdoor_scan(request: pytest.FixtureRequest) -> ScanFunction:
    """A function that scans a model file or a live ``torch.nn.Module`` and returns its ScanReport.

    Settings are keywords and override those of the command line and of pyproject.toml::

        def test_network(backdoor_scan):
            assert backdoor_scan(network, data="clean.npz").passes()
    """
    from ._marker import make_scan_function

    return make_scan_function(request.node)


@pytest.fixture
def backdoor_report(request: pytest.FixtureRequest) -> ScanReport:
    """The ScanReport of the models that the test's ``backdoor_scan`` mark names."""
    from ._marker import marked_report

    return marked_report(request.node)
