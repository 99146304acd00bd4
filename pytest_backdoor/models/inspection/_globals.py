"""What a pickle of weights may name: the names that torch's loader restricted to weights knows by itself.

The list is that of ``torch/_weights_only_unpickler.py`` (torch 2.14, ``_get_allowed_globals``); a test compares it with
the torch that is installed. It stands here because an inspection must not import torch, and because the list of the
running process may be made longer (``torch.serialization.add_safe_globals``), which must not change what a file is.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ._dtypes import STORAGES, TYPES

KINDS = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
SPARSE_KINDS = tuple(kind for kind in KINDS if kind != "Bool")
REBUILDERS = frozenset(
    f"torch._utils._rebuild_{name}"
    for name in (
        "device_tensor_from_cpu_tensor",
        "device_tensor_from_numpy",
        "meta_tensor_no_storage",
        "nested_tensor",
        "parameter",
        "parameter_with_state",
        "qtensor",
        "sparse_tensor",
        "tensor",
        "tensor_v2",
        "tensor_v3",
        "wrapper_subclass",
    )
)
DTYPES = frozenset(f"torch.{name}" for name in TYPES)
QUANTISATIONS = frozenset(
    f"torch.per_{name}"
    for name in (
        "channel_affine",
        "channel_affine_float_qparams",
        "channel_symmetric",
        "tensor_affine",
        "tensor_symmetric",
    )
)
CPU_STORAGES = frozenset(f"torch.{name}" for name in STORAGES if name != "UntypedStorage")
CUDA_STORAGES = frozenset(f"torch.cuda.{kind}Storage" for kind in (*KINDS, "ComplexDouble", "ComplexFloat"))
STORAGE_CLASSES = CPU_STORAGES | CUDA_STORAGES | {"torch.storage.UntypedStorage", "torch.storage.TypedStorage"}
TENSOR_CLASSES = (
    frozenset(f"torch.{device}{kind}Tensor" for device in ("", "cuda.") for kind in KINDS)
    | frozenset(f"torch.{device}sparse.{kind}Tensor" for device in ("", "cuda.") for kind in SPARSE_KINDS)
    | {"torch.Tensor"}
)
ALLOWED = (
    REBUILDERS
    | DTYPES
    | QUANTISATIONS
    | STORAGE_CLASSES
    | TENSOR_CLASSES
    | {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2",
    }
)
# Protocol 2 writes the names that Python 2 had. Torch translates more of them, none to a name that is allowed.
OLD_MODULES: Mapping[str, str] = MappingProxyType({"__builtin__": "builtins"})
