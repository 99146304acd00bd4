"""The model under audit: its file, opened at most once and only when a check asks for it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import BackdoorScanError, ModelError, NotAssessableError
from ..findings import Problem
from ..rules import RULES
from ..settings import ScanSettings
from ._classifier import Classifier, OpenedModel
from ._files import MAX_PROTOBUF_BYTES, ModelFiles, SubjectFile, read_model
from .inspection import inspect

if TYPE_CHECKING:
    import torch

    from ._onnx_detector import OnnxDetector
    from ._resolution import Resolution
    from ._samples import Samples
    from .hub import HubFile

DETECTOR_REMEDY = (
    "The reversal check audits a whole object detector on photographs (--backdoor-data FOLDER). For the others export "
    "the part that classifies a box as a model of its own, image crop in and class scores out, and scan that file too."
)
MODEL_SUFFIXES = (".onnx", ".pt", ".pth", ".safetensors")


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
        # A name that is no text can be neither printed nor put into a report.
        self.display = display if display.isprintable() else ascii(display)[1:-1]
        self.settings = settings
        self.path = path
        self.root = root
        self.hub = hub
        self._network = network
        self._opening_error: BackdoorScanError | None = None

    @cached_property
    def _read(self) -> ModelFiles:
        if self.path is None:
            return ModelFiles(files=())
        # Half of the memory: whoever opens the model needs its weights a second time.
        memory = self.settings.memory * 2**20 // 2 or MAX_PROTOBUF_BYTES
        return read_model(self.path, self.display, keep=min(memory, MAX_PROTOBUF_BYTES), root=self.root)

    @property
    def files(self) -> tuple[SubjectFile, ...]:
        """The model file and its external data, each read once; none for a live module.

        What is hashed is what is inspected and opened. Raises ModelError if the model file cannot be read.
        """
        return self._read.files

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files and with what they contain; empty for a live module. Raises as ``files``."""
        if self.path is None:
            return ()
        model, read = self.files[0], self._read
        inside = [] if model.data is None else inspect(model.format, model.data, self.display, read.external)
        # Names of external data are judged by whoever reads the files and again with the rest of the content.
        return tuple(dict.fromkeys((*read.problems, *inside)))

    @property
    def content(self) -> bytes:
        """The model file's bytes. Raises ModelError, also if they are too many to be kept."""
        if self.path is None:
            return b""
        if self.files[0].data is None:
            self._refuse()
            raise ModelError(f"{self.display} is larger than what its scan may use; raise --backdoor-memory.")
        return self.files[0].data

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file, 64 lower-case hex digits; None for a live module."""
        return None if self.path is None else self.files[0].sha256

    @property
    def format(self) -> str:
        """What the file holds, by its content: see ``sniff_format``; "unknown", or "module" for a live one."""
        return "module" if self.path is None else self.files[0].format or "unknown"

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

    @property
    def detector(self) -> OnnxDetector | None:
        """The opened model if it is an object detector, None for a classifier. Raises ModelError."""
        if "_model" not in self.__dict__ and self._opening_error is not None:
            raise self._opening_error
        try:
            model = self._model
        except BackdoorScanError as error:
            self._opening_error = error
            raise
        return self._detector_in(model)

    @staticmethod
    def _detector_in(model: OpenedModel | OnnxDetector | None) -> OnnxDetector | None:
        from ._onnx_detector import OnnxDetector

        return model if isinstance(model, OnnxDetector) else None

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
        model = self._model
        if self._detector_in(model) is not None:
            raise NotAssessableError(
                f"{self.display} is an object detector, and this check is of image classifiers.", remedy=DETECTOR_REMEDY
            )
        return cast("OpenedModel", model)

    @cached_property
    def _model(self) -> OpenedModel | OnnxDetector:
        if self._network is not None:
            from ._torch import TorchClassifier

            return TorchClassifier(self._network, self.display, self.settings)
        self._refuse()
        if self.format == "onnx":
            return self._open_onnx()
        return self._open_state_dict()

    def _refuse(self) -> None:
        """Raise ModelError if a rule is broken that nobody may open the model against."""
        for problem in self.problems:
            if problem.blocks and (RULES[problem.rule].refuses or problem.rule == "missing-file"):
                raise ModelError(f"{problem.message} {problem.remedy}")

    def _open_onnx(self) -> OpenedModel | OnnxDetector:
        from ._onnx import OnnxClassifier
        from ._onnx_detector import OnnxDetector, detection_outputs
        from ._onnx_session import open_session

        content, external = self.content, self._read.external
        session = open_session(content, self.display, external)
        outputs = detection_outputs(session)
        if outputs is None:
            return OnnxClassifier(content, self.display, self.settings, external=external, session=session)
        return OnnxDetector(content, self.display, self.settings, session=session, outputs=outputs, external=external)

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
            described["size"] = self.files[0].size if self.path is not None else None
            opened: Classifier | None = self.__dict__.get("_opened")
            detector = self._detector_in(self.__dict__.get("_model"))
            if detector is not None:
                described |= detector.describe()
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
