"""Settings of one model's scan, and their validation."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from .acceptance import Acceptance, read_acceptances
from .errors import SettingsError

Layout = Literal["NCHW", "NHWC"]
ChannelOrder = Literal["RGB", "BGR"]

TRIGGER_FAMILIES = {
    "patch": "an opaque patch in one place",
    "source-patch": "an opaque patch in one place that turns images of one class",
    "pixels": "a few pixels anywhere",
    "blend": "a whole image blended in",
    "wave": "stripes or a smooth signal added",
    "warp": "a smooth warp",
}
DETECTOR_FAMILIES = {"box-patch": "an opaque patch on every object"}
DEFAULT_FAMILIES = ("patch", "pixels", "blend", "wave", "warp")

MODEL_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "layout": "`NCHW` or `NHWC`; default: read from the input's shape",
        "input_range": "Lowest and highest value of the images before normalisation: `[0, 1]`, `[0, 255]`, `[-1, 1]`; "
        "default: [found](../usage.md#preprocessing)",
        "mean": "One number, or one for each channel in the model's channel order; applied after the range",
        "std": "Likewise",
        "channel_order": "`RGB` or `BGR`; default: RGB, unless the labelled clean samples show BGR",
        "classes": "Names of the classes, in the order of the outputs",
        "factory": "`package.module:function` that builds the torch network of a state dict; imported from pytest's "
        "root folder ([how](../how-to/torch-state-dicts.md))",
        "input_shape": "`[channels, height, width]`, for torch models and ONNX models that leave it open",
        "source": "Where the file comes from; an address (`https://...`, `hf://owner/repo@revision/file`) must be "
        "protected and pinned, as [provenance](../provenance.md) says",
        "accept": "A list of tables with `checks`, `sha256`, `reason` and `until`: that these checks fail on this very "
        "file does not close the gate up to that day ([how](../how-to/accept-a-finding.md))",
    }
)
"""The settings of a model that are no options, with their meaning in Markdown, for the reference."""


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """How one model is scanned.

    ``checks``: names of checks, None for all. ``data``: a folder or ``.npz`` of clean samples.
    ``train_data``: the same of the images that the model was trained on. ``pack``: a detector pack to use instead of
    the shipped ones. ``families``: the trigger families that the reversal check covers, None for the default ones.
    ``fpr``: the gate's false-positive rate, in (0, 1). ``lock``: path of the lock file, None if there is none.
    ``timeout``: seconds for all checks of the model, 0 for no limit. ``memory``: MB that the scan may allocate, 0 for
    no limit. ``seed``: everything random comes from it. ``device``: cpu, cuda, cuda:1 or mps.

    The rest is of the model alone: ``MODEL_SETTINGS``. Where ``input_range``, ``mean`` and ``std`` are all None, or
    ``channel_order`` is, it is found as ``docs/usage.md`` says.
    """

    checks: tuple[str, ...] | None = None
    data: str | None = None
    train_data: str | None = None
    fpr: float = 0.01
    lock: str | None = None
    allow_unverified: bool = False
    timeout: float = 600.0
    memory: int = 8192
    seed: int = 0
    device: str = "cpu"
    layout: Layout | None = None
    input_range: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: ChannelOrder | None = None
    classes: tuple[str, ...] | None = None
    factory: str | None = None
    source: str | None = None
    input_shape: tuple[int, int, int] | None = None
    pack: str | None = None
    families: tuple[str, ...] | None = None
    accept: tuple[Acceptance, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)


SETTING_NAMES = tuple(field.name for field in fields(ScanSettings))


def make_settings(values: Mapping[str, Any], *, where: str, also: tuple[str, ...] = ()) -> ScanSettings:
    """Validated settings of raw ``values`` (from TOML, the command line or a caller's keywords).

    ``where`` names their origin in error texts; keys in ``also`` are allowed and left out. Raises SettingsError.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name in also:
            continue
        if name not in _VALIDATORS:
            raise SettingsError(f"{where} has no setting {name!r}.{_suggestion(name, (*SETTING_NAMES, *also))}")
        if value is not None:
            try:
                checked[name] = _VALIDATORS[name](value)
            except (TypeError, ValueError) as error:
                raise SettingsError(f"{where}: {name} = {value!r} is not valid: {error}") from None
    return ScanSettings(**checked)


def _suggestion(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known settings: {', '.join(sorted(known))}."


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("give a text that is not empty.")
    return value


def _path(value: Any) -> str:
    return _text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("give true or false.")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("give a number.")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("give a whole number.")
    return value


def _seed(value: Any) -> int:
    seed = _whole(value)
    if not 0 <= seed < 2**63:
        raise ValueError("give 0 or more, below 2 to the power of 63.")
    return seed


def _limit(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        number = convert(value)
        if number < 0:
            raise ValueError("give 0 (no limit) or more.")
        return number

    return check


def _rate(value: Any) -> float:
    rate = _number(value)
    if not 0 < rate < 1:
        raise ValueError("give a rate between 0 and 1, such as 0.01.")
    return rate


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("give a list of names.")
    return tuple(value)


def _numbers(value: Any) -> tuple[float, ...]:
    if isinstance(value, int | float):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("give a number or one for each channel.")
    return tuple(_number(part) for part in value)


def _positive_numbers(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    if min(numbers) <= 0:
        raise ValueError("every entry must be above 0.")
    return numbers


def _range(value: Any) -> tuple[float, float]:
    numbers = _numbers(value)
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ValueError("give the lowest and the highest value, such as [0, 255].")
    return numbers[0], numbers[1]


def _shape(value: Any) -> tuple[int, int, int]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError("give [channels, height, width].")
    channels, height, width = (_whole(part) for part in value)
    if min(channels, height, width) < 1:
        raise ValueError("every entry must be 1 or more.")
    return channels, height, width


def _layout(value: Any) -> str:
    if value not in ("NCHW", "NHWC"):
        raise ValueError("give NCHW or NHWC.")
    return str(value)


def _channel_order(value: Any) -> str:
    if value not in ("RGB", "BGR"):
        raise ValueError("give RGB or BGR.")
    return str(value)


def _device(value: Any) -> str:
    kind, _, number = _text(value).partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
        raise ValueError("give cpu, cuda, cuda:1 or mps.")
    return str(value)


def _families(value: Any) -> tuple[str, ...]:
    names = _names(value)
    unknown = [name for name in names if name not in TRIGGER_FAMILIES]
    if unknown:
        raise ValueError(f"there is no trigger family {unknown[0]!r}; choose among {', '.join(TRIGGER_FAMILIES)}.")
    return tuple(dict.fromkeys(names))


def _factory(value: Any) -> str:
    module, _, function = _text(value).partition(":")
    if not module or not function:
        raise ValueError('give "package.module:function".')
    return str(value)


_VALIDATORS: dict[str, Callable[[Any], Any]] = {
    "checks": _names,
    "data": _path,
    "train_data": _path,
    "fpr": _rate,
    "lock": _path,
    "allow_unverified": _flag,
    "timeout": _limit(_number),
    "memory": _limit(_whole),
    "seed": _seed,
    "device": _device,
    "layout": _layout,
    "input_range": _range,
    "mean": _numbers,
    "std": _positive_numbers,
    "channel_order": _channel_order,
    "classes": _names,
    "factory": _factory,
    "source": _text,
    "input_shape": _shape,
    "pack": _path,
    "families": _families,
    "accept": read_acceptances,
}
