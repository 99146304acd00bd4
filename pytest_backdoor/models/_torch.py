"""Torch networks: live modules, and state dicts that are loaded as data and never as code."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, NotAssessableError
from ..settings import ScanSettings
from ._classifier import as_logits
from ._preprocessing import make_preprocessing

if TYPE_CHECKING:
    import numpy as np
    import torch

BATCH = 64


class TorchClassifier:
    """A torch image classifier; see ``Classifier``.

    The network is put into evaluation mode while it is looked at, on ``settings.device``. Raises ModelError if it
    fails on images of ``settings.input_shape`` or does not give one score for each of two or more classes.
    """

    def __init__(self, network: torch.nn.Module, display: str, settings: ScanSettings) -> None:
        if settings.input_shape is None:
            raise ModelError(
                f"The size of the images of {display} is not known; set input_shape = [channels, height, width]."
            )
        self._network = network
        self._display = display
        self._device = settings.device
        self.input_shape = settings.input_shape
        self.preprocessing = make_preprocessing(
            settings, layout=settings.layout or "NCHW", channels=self.input_shape[0], dtype="float32", path=display
        )
        self.classes = self._count_classes()

    def logits(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """See ``Classifier.logits``."""
        import torch

        forward = self.differentiable(self._device)
        with torch.no_grad():
            batches = torch.split(torch.from_numpy(images), BATCH)
            rows = [forward(batch.to(self._device)).float().cpu() for batch in batches]
        return as_logits(torch.cat(rows).numpy(), path=self._display)

    def differentiable(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """See ``Classifier.differentiable``."""
        network = self._network.to(device)

        def forward(images: torch.Tensor) -> torch.Tensor:
            was_training = network.training
            network.eval()
            try:
                output: torch.Tensor = network(self.preprocessing.for_torch(images))
            finally:
                network.train(was_training)
            return output

        return forward

    def _count_classes(self) -> int:
        import torch

        probe = torch.rand(2, *self.input_shape, generator=torch.Generator().manual_seed(0)).to(self._device)
        try:
            with torch.no_grad():
                output = self.differentiable(self._device)(probe)
        except Exception as error:  # the network is the user's own code
            raise ModelError(
                f"{self._display} fails on images of shape {list(self.input_shape)}: {type(error).__name__}: {error}. "
                "Check input_shape, layout and the factory."
            ) from error
        if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[0] != 2 or output.shape[1] < 2:
            raise ModelError(
                f"{self._display} does not give one score for each of two or more classes; only image classifiers "
                "can be audited."
            )
        as_logits(output.float().cpu().numpy(), path=self._display)
        return int(output.shape[1])


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
    state = _read_state(content, display, safetensors=safetensors)
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
        raise ModelError(f"The weights in {display} do not fit {settings.factory}: {error}") from error
    return network


def _build(factory: str, display: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function_name)()
    except Exception as error:  # the factory is the user's own code
        raise ModelError(
            f"The factory {factory} of {display} failed: {type(error).__name__}: {error}. It must be importable from "
            "the folder of pyproject.toml and build the network without arguments."
        ) from error


def _read_state(content: bytes, display: str, *, safetensors: bool) -> Any:
    import pickle

    import torch

    try:
        if safetensors:
            from safetensors.torch import load

            return load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{display} is refused: opening it would run code that the file names "
            f"({' '.join(str(error).split())[:200]}). Save the state dict alone (torch.save(model.state_dict(), ...)) "
            "or export the model to ONNX."
        ) from error
    except Exception as error:  # malformed files raise many types
        raise ModelError(f"{display} cannot be read: {type(error).__name__}: {error}. Fetch the file again.") from error
    if isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{display} holds no state dict; save torch.save(model.state_dict(), ...).")
    return state
