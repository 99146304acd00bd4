"""The model under audit: its file, opened at most once and only when a check asks for it."""

from __future__ import annotations

import hashlib
import io
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackdoorScanError, ModelError
from ..settings import ScanSettings
from ._classifier import Classifier, OpenedModel
from ._format import open_regular, sniff_stream

if TYPE_CHECKING:
    import torch

    from ._resolution import Resolution
    from ._samples import Samples
    from .hub import HubFile

MODEL_SUFFIXES = (".onnx", ".pt", ".pth", ".safetensors")

REFUSED = {
    "empty": "is an empty file; fetch or export the model again.",
    "text": "is a text file, not a model; check the path or fetch the file again.",
    "html": "is an HTML page, not a model: the download gave an error or a login page; fetch the file again.",
    "lfs-pointer": "is a Git LFS pointer, not the model itself; run git lfs pull.",
    "torchscript": "is refused: TorchScript runs code when it is opened. Export to ONNX or save the state dict.",
    "hdf5": "is an HDF5 file (Keras), which cannot be opened here; export the model to ONNX, say with tf2onnx.",
    "unknown": "is in no format that can be audited; give an ONNX model, or a state dict (.pt, .pth, .safetensors).",
}


class Subject:
    """A model with its settings.

    ``display``: its name as the user knows it. ``path``: its file, None for a live module. ``root``: the folder that
    the ``data`` setting is relative to; None: the clean samples are not asked about the preprocessing. ``classifier``:
    the opened model behind the preprocessing that all checks use; opening it a second time raises the first time's
    error again. ``hub``: what is known of a file that was fetched from the Hub, None for all others.
    """

    def __init__(
        self,
        display: str,
        settings: ScanSettings,
        *,
        path: Path | None = None,
        network: torch.nn.Module | None = None,
        root: Path | None = None,
        hub: HubFile | None = None,
    ) -> None:
        self.display = display
        self.settings = settings
        self.path = path
        self.root = root
        self.hub = hub
        self._network = network
        self._opening_error: BackdoorScanError | None = None

    @cached_property
    def content(self) -> bytes:
        """The file's bytes, read once: what is hashed is what is opened. Raises ModelError."""
        if self.path is None:
            return b""
        try:
            with open_regular(self.path) as stream:
                return stream.read()
        except MemoryError:
            raise ModelError(
                f"{self.display} is larger than the memory that its scan may use; raise --backdoor-memory."
            ) from None

    @cached_property
    def sha256(self) -> str | None:
        """The SHA-256 of the file, 64 lower-case hex digits; None for a live module."""
        return None if self.path is None else hashlib.sha256(self.content).hexdigest()

    @cached_property
    def format(self) -> str:
        """What the file holds, by its content: see ``sniff_format``; "unknown", or "module" for a live one."""
        return "module" if self.path is None else sniff_stream(io.BytesIO(self.content)) or "unknown"

    @property
    def classifier(self) -> Classifier:
        """The opened model.

        Raises ModelError, NotAssessableError also where labelled clean samples show that its preprocessing is not
        known, and SettingsError for samples that do not fit it.
        """
        if self._opening_error is not None:
            raise self._opening_error
        try:
            return self._classifier
        except BackdoorScanError as error:
            self._opening_error = error
            raise

    @cached_property
    def _classifier(self) -> Classifier:
        return self._opened.with_preprocessing(self._resolution.preprocessing)

    @cached_property
    def _resolution(self) -> Resolution:
        from ._inference import resolve

        return resolve(self._opened, self.settings, self._samples_to_try(), self.display)

    def _samples_to_try(self) -> Samples | None:
        from ._inference import MOST_TRIED
        from ._samples import load_samples

        if self.root is None or self.settings.data is None:
            return None
        return load_samples(
            self.settings.data,
            root=self.root,
            input_shape=self._opened.input_shape,
            classes=self._opened.classes,
            class_names=self.settings.classes,
            limit=MOST_TRIED,
            seed=self.settings.seed,
        )

    @cached_property
    def _opened(self) -> OpenedModel:
        if self._network is not None:
            from ._torch import TorchClassifier

            return TorchClassifier(self._network, self.display, self.settings)
        if self.format in REFUSED:
            raise ModelError(f"{self.display} {REFUSED[self.format]}")
        if self.format == "onnx":
            return self._open_onnx()
        return self._open_state_dict()

    def _open_onnx(self) -> OpenedModel:
        from ._files import self_contained
        from ._onnx import OnnxClassifier

        assert self.path is not None
        return OnnxClassifier(self_contained(self.path, self.content), self.display, self.settings)

    def _open_state_dict(self) -> OpenedModel:
        from ._torch import TorchClassifier, load_state_dict

        network = load_state_dict(self.content, self.display, self.settings, safetensors=self.format == "safetensors")
        return TorchClassifier(network, self.display, self.settings)

    def describe(self) -> dict[str, Any]:
        """``sha256``, ``size``, ``format``, ``task`` and ``preprocessing`` of the report.

        None for each that cannot be told. The last two are told once a check has opened the model: a scan of its
        provenance alone leaves it closed.
        """
        names = ("sha256", "size", "format", "task", "preprocessing")
        described: dict[str, Any] = dict.fromkeys(names)
        try:
            described["format"] = self.format
            described["sha256"] = self.sha256
            described["size"] = len(self.content) if self.path is not None else None
            opened: Classifier | None = self.__dict__.get("_opened")
            if opened is not None:
                described["task"] = {"input_shape": list(opened.input_shape), "classes": opened.classes}
            resolution: Resolution | None = self.__dict__.get("_resolution")
            if resolution is not None:
                described["preprocessing"] = resolution.to_json()
        except Exception:  # the checks say what is wrong with the model; nothing here may end the scan
            pass
        return described

    def class_name(self, number: int) -> str:
        """How a report names one class: by its name where the settings give one."""
        names = self.settings.classes
        return f"{number} ({names[number]})" if names and number < len(names) else str(number)
