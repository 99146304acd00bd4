"""The tools that are measured side by side, behind one interface."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.checks import reversal
from pytest_backdoor.models import Samples, TorchClassifier

from .neural_cleanse import CleansePlan, Forward, neural_cleanse
from .reversal_pairs import PairsPlan, reverse_pairs


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network under test. ``samples``: clean images, the same for all networks and tools."""

    classifier: TorchClassifier
    samples: Samples
    seed: int

    @property
    def images(self) -> torch.Tensor:
        """Float ``(N, C, H, W)`` in [0, 1]."""
        return torch.from_numpy(self.samples.images)

    @property
    def labels(self) -> torch.Tensor:
        """Int64 ``(N,)``."""
        return torch.from_numpy(np.asarray(self.samples.labels, np.int64))

    @property
    def generator(self) -> torch.Generator:
        """A fresh one."""
        return torch.Generator().manual_seed(self.seed)

    @cached_property
    def forward(self) -> Forward:
        """From images in [0, 1] to logits."""
        return self.classifier.differentiable("cpu")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a tool says of a network.

    ``statistics``: by name, the tool's own first; higher is more suspicious, None where the tool could not compute it.
    ``flagged``: the tool's own verdict, None if it has none. ``details``: JSON values worth keeping.
    """

    statistics: dict[str, float | None]
    flagged: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)


TOOLS = ("pytest-backdoor", "neural-cleanse", "reversal-pairs", "trojanzoo", "art")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool by name. ``settings``: JSON values; results of other settings are never taken for these.

    ``missing``: why it cannot run here, None if it can. ``flags``: how it comes to its verdict, for the table's reader.
    """

    name: str
    run: Callable[[Case], Answer]
    settings: Mapping[str, Any]
    flags: str = "none"
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class ToolPlan:
    """The settings of all tools. ``trojanzoo_images``: what TrojanZoo sees in each epoch of a class."""

    cleanse: CleansePlan
    pairs: PairsPlan
    art_steps: int
    trojanzoo_images: int


def make_tools(plan: ToolPlan, names: Sequence[str]) -> dict[str, Tool]:
    """The tools of ``names``, in the order of ``TOOLS``, those that are not installed among them."""
    from .art import art_tool
    from .trojanzoo import trojanzoo_tool

    makers: dict[str, Callable[[], Tool]] = {
        "pytest-backdoor": ours,
        "neural-cleanse": lambda: cleanse_tool(plan.cleanse),
        "reversal-pairs": lambda: pairs_tool(plan.pairs),
        "trojanzoo": lambda: trojanzoo_tool(plan.trojanzoo_images),
        "art": lambda: art_tool(plan.art_steps),
    }
    return {name: make() for name, make in makers.items() if name in names}


def ours() -> Tool:
    """The reversal of ``pytest_backdoor``."""

    def run(case: Case) -> Answer:
        found = reversal.reverse(case.classifier, case.samples, seed=case.seed, device="cpu")
        return Answer(statistics={"highest contrast between targets": float(found.score)})

    return Tool(
        name="pytest-backdoor",
        run=run,
        settings={"source": source_digest(Path(reversal.__file__).parent)},
        flags="by a detector pack's reference scores, which are not part of this",
    )


def cleanse_tool(plan: CleansePlan) -> Tool:
    """Neural Cleanse as published."""

    def run(case: Case) -> Answer:
        found = neural_cleanse(case.forward, case.images, case.classifier.classes, plan, case.generator)
        return Answer(
            statistics={
                "anomaly index": found.anomaly_index,
                "anomaly index, failed triggers too": found.index_of_all,
                "smallest norm": -found.smallest_norm,
            },
            flagged=bool(found.flagged),
            details={
                "norms": [trigger.norm for trigger in found.triggers],
                "succeeded": [trigger.succeeded for trigger in found.triggers],
                "steps": [trigger.steps for trigger in found.triggers],
                "flagged": found.flagged,
            },
        )

    return Tool(
        name="neural-cleanse",
        run=run,
        settings={**asdict(plan), "source": source_digest(this_folder(), "neural_cleanse", "cost_schedule", "anomaly")},
        flags="a norm below the median with an anomaly index above 2",
    )


def pairs_tool(plan: PairsPlan) -> Tool:
    """The baseline of Universal Litmus Patterns."""

    def run(case: Case) -> Answer:
        attacks = reverse_pairs(case.forward, case.images, case.labels, case.classifier.classes, plan, case.generator)
        source, target = attacks.pair
        return Answer(
            statistics={"loss of the most successful pair": attacks.score},
            details={"source": source, "target": target, "success": float(attacks.success[source, target])},
        )

    return Tool(
        name="reversal-pairs",
        run=run,
        settings={**asdict(plan), "source": source_digest(this_folder(), "reversal_pairs")},
    )


def this_folder() -> Path:
    """Where the tools' modules are."""
    return Path(__file__).parent


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def missing(package: str, modules: Sequence[str], remedy: str) -> str | None:
    """Why a package that would bring ``modules`` is of no use here, None if all can be imported."""
    if installed(package) is None:
        return f"not installed ({remedy})"
    try:
        for module in modules:
            importlib.import_module(module)
    except Exception as error:  # What other people's modules raise on import is theirs to choose.
        return f"cannot be imported: {str(error).splitlines()[0]} ({remedy})"
    return None


def source_digest(folder: Path, *names: str) -> str:
    """Twelve hexadecimal digits that change with the code of a folder's modules, of those ``names`` if given."""
    paths = [folder / f"{name}.py" for name in names] or sorted(folder.glob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:12]
