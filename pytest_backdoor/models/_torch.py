"""Torch networks: live modules, and state dicts that are loaded as data and never as code."""

from __future__ import annotations

import copy
import importlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from ..errors import ModelError, NotAssessableError
from ..settings import ScanSettings
from ._classifier import (
    BATCH,
    as_features,
    as_logits,
    class_scores,
    is_softmax,
    one_line,
    probe_images,
    require_class_names,
    smallest_probability,
)
from ._preprocessing import Preprocessing, make_preprocessing
from ._torch_features import watch_last_linear

if TYPE_CHECKING:
    import numpy as np
    import torch

NAMED_CODE = re.compile(r"GLOBAL ([\w.]+)")


class TorchClassifier:
    """A torch image classifier; see ``Classifier``.

    The network is put into evaluation mode while it is looked at; where it does not lie on the device asked for, a
    copy does. Raises ModelError if it fails on images of ``settings.input_shape`` or does not give one score for each
    of two or more classes.
    """

    range_in_graph = False
    layout_open = False
    thread_safe = False  # A user's module may keep what it computes.

    def __init__(self, network: torch.nn.Module, display: str, settings: ScanSettings) -> None:
        if settings.input_shape is None:
            raise ModelError(
                f"The size of the images of {display} is not known; set input_shape = [channels, height, width]."
            )
        self._network = network
        self._display = display
        self._device = settings.device
        self.input_shape = settings.input_shape
        self.preprocessing: Preprocessing = make_preprocessing(
            settings, layout=settings.layout or "NCHW", channels=self.input_shape[0], dtype="float32", path=display
        )
        self._copies: dict[str, torch.nn.Module] = {}
        outputs = self._probe()
        self.classes = int(outputs.shape[1])
        self._softmax = is_softmax(outputs)
        as_logits(outputs, softmax=self._softmax, path=display)
        require_class_names(settings, self.classes, display)

    def logits(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """See ``Classifier.logits``."""
        import torch

        forward = self._forward(self._device)
        with torch.no_grad():
            # A copy: a network may change its input in place, and a pack's images are shared by all models.
            batches = torch.split(torch.tensor(images), BATCH)
            rows = [forward(batch.to(self._device)).cpu() for batch in batches]
        return as_logits(torch.cat(rows).numpy(), softmax=self._softmax, path=self._display)

    def features(self, images: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """See ``Classifier.features``."""
        import numpy as np
        import torch

        forward, network = self._forward(self._device), self._on(self._device)
        features, rows = [], []
        with torch.no_grad(), watch_last_linear(network) as last:
            for batch in torch.split(torch.tensor(images), BATCH):
                rows.append(forward(batch.to(self._device)).cpu())
                taken = last.features(self.classes, self._display).float().cpu().numpy()
                features.append(as_features(taken, len(batch), self._display))
        logits = as_logits(torch.cat(rows).numpy(), softmax=self._softmax, path=self._display)
        return np.concatenate(features), logits

    def with_preprocessing(self, preprocessing: Preprocessing) -> Self:
        """See ``OpenedModel.with_preprocessing``."""
        other = copy.copy(self)
        other.preprocessing = preprocessing
        return other

    def differentiable(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """See ``Classifier.differentiable``."""
        forward = self._forward(device)
        if not self._softmax:
            return forward

        def logits(images: torch.Tensor) -> torch.Tensor:
            return forward(images).clamp(min=smallest_probability("float32")).log()

        return logits

    def _forward(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """The network's raw outputs, float32 ``(N, classes)``, for images in [0, 1] on ``device``."""
        import torch

        network = self._on(device)
        dtype = next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), torch.float32)

        def forward(images: torch.Tensor) -> torch.Tensor:
            with _evaluating(network):
                output = network(self.preprocessing.for_torch(images).to(dtype))
            scores: torch.Tensor | None = class_scores(output, len(images))
            if scores is None:
                raise ModelError(
                    f"{self._display} does not give one score for each of two or more classes; only image "
                    "classifiers can be audited."
                )
            return scores.float()

        return forward

    def _on(self, device: str) -> torch.nn.Module:
        import torch

        wanted = torch.device(device)
        tensors = chain(self._network.parameters(), self._network.buffers())
        if all(part.device.type == wanted.type and wanted.index in (None, part.device.index) for part in tensors):
            return self._network
        if device not in self._copies:
            try:
                self._copies[device] = copy.deepcopy(self._network).to(wanted)
            except Exception as error:  # a device that is not there raises many types
                raise ModelError(
                    f"{self._display} cannot be moved to {device}: {one_line(error)} Choose another --backdoor-device."
                ) from error
        return self._copies[device]

    def _probe(self) -> np.ndarray[Any, Any]:
        import torch

        forward = self._forward(self._device)
        try:
            with torch.no_grad():
                outputs = forward(torch.from_numpy(probe_images(self.input_shape)).to(self._device))
        except ModelError:
            raise
        except Exception as error:  # the network is the user's own code
            raise ModelError(
                f"{self._display} fails on images of shape {list(self.input_shape)}: {type(error).__name__}: "
                f"{one_line(error)} Check input_shape, layout and the factory."
            ) from error
        found: np.ndarray[Any, Any] = outputs.cpu().numpy()
        return found


@contextmanager
def _evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every part of the network is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def load_state_dict(content: bytes, display: str, settings: ScanSettings, *, safetensors: bool) -> torch.nn.Module:
    """The network of ``settings.factory`` with the weights of a file's ``content``.

    Weights are unpickled with ``weights_only=True`` whatever the environment says. Raises ModelError for a file that
    holds code or does not fit the network, NotAssessableError where torch or the factory is missing.
    """
    try:
        import torch
    except ImportError:
        raise NotAssessableError(
            f"{display} needs torch, which is not installed; pip install 'pytest-backdoor[torch]', or export to ONNX."
        ) from None
    # The file is read first: that it would run code is more urgent than that a setting is missing.
    state = (_read_safetensors if safetensors else _read_pickle)(content, display)
    if not settings.factory:
        raise ModelError(
            f"{display} holds weights without a network; set factory = 'package.module:function' for it in "
            "pyproject.toml, or export the model to ONNX."
        )
    network = _build(settings.factory, display)
    if not isinstance(network, torch.nn.Module):
        raise ModelError(f"The factory {settings.factory} of {display} gave no torch.nn.Module.")
    try:
        network.load_state_dict(state)
    except Exception as error:  # torch raises RuntimeError, but hooks of the user's network may raise anything
        raise ModelError(f"The weights in {display} do not fit {settings.factory}: {one_line(error)}") from error
    return network


def _build(factory: str, display: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function_name)()
    except (Exception, SystemExit) as error:  # the factory is the user's own code, perhaps a script
        raise ModelError(
            f"The factory {factory} of {display} failed: {type(error).__name__}: {one_line(error)} It must be "
            "importable from the folder of pyproject.toml and build the network without arguments."
        ) from error


def _read_safetensors(content: bytes, display: str) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load
    except ImportError:
        raise NotAssessableError(
            f"{display} needs safetensors, which is not installed; pip install 'pytest-backdoor[torch]'."
        ) from None
    try:
        return load(content)
    except Exception as error:  # malformed files raise many types
        raise ModelError(f"{display} cannot be read: {one_line(error)} Fetch the file again.") from error


def _read_pickle(content: bytes, display: str) -> dict[str, torch.Tensor]:
    import pickle

    import torch

    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Nothing of torch's text is passed on: it advises to load the file without protection.
        named = NAMED_CODE.search(str(error))
        what = f"names {named[1]}, which is code" if named else "is damaged, or holds more than weights"
        raise ModelError(
            f"{display} is refused: it {what}. Do not load it in any other way; save the state dict alone "
            "(torch.save(model.state_dict(), ...)) or export the model to ONNX."
        ) from error
    except Exception as error:  # malformed files raise many types
        raise ModelError(f"{display} cannot be read: {one_line(error)} Fetch the file again.") from error
    if isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{display} holds no state dict; save torch.save(model.state_dict(), ...).")
    return state
