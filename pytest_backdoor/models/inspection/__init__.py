"""What is wrong with a model file's bytes, found before anything that could be hurt by them reads them."""

from __future__ import annotations

from ._dispatch import inspect
from ._locations import DRIVE, checked_location
from ._onnx import Locations, external_locations
from ._onnx_tensors import data_bytes
from ._unopened import unopened

__all__ = ["DRIVE", "Locations", "checked_location", "data_bytes", "external_locations", "inspect", "unopened"]
