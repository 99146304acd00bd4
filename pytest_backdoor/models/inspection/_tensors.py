"""Judging every call that a pickle of weights makes, above all whether tensors fit into their storages.

Sizes are Python integers throughout and are compared before anything of that size could come into being. A call is
judged when the pickle makes it, as its loader would do it, so nothing that is changed afterwards can slip through.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ._arguments import MismatchError, natural, storage_type
from ._globals import ALLOWED, TENSOR_CLASSES
from ._plain_calls import PLAIN_CALLS
from ._problems import Problems, shown
from ._tensor_calls import TENSOR_CALLS, make_tensor, new_tensor
from ._values import Dictionary, Global, Opaque, Storage, Tensor

STORAGE_KEY = re.compile(r"[0-9A-Za-z_.-]{1,128}")


class TensorBuilder:
    """Takes the place of torch where a pickle wants tensors.

    ``problems``: where what is wrong is put. ``views``: whether storages may be parts of others, as in torch's legacy
    format. ``storages``: by key, those that the file must hold; ``parts``: the others.
    """

    def __init__(self, problems: Problems, *, views: bool) -> None:
        self.problems = problems
        self.storages: dict[str, Storage] = {}
        self.parts: dict[str, Storage] = {}
        self._views = views

    def call(self, function: object, arguments: object) -> object:
        """See ``Builder.call``."""
        if not isinstance(function, Global):
            self.problems.add("unsafe-serialisation", "calls something that it computes itself")
            return Opaque("result of a call")
        if function.path not in ALLOWED:
            return Opaque("result of a call")  # reported with the names
        try:
            if not isinstance(arguments, tuple):
                raise TypeError
            return self._judge(function.path)(*arguments)
        except MismatchError as error:
            self.problems.add("inconsistent-tensors", f"holds a tensor {error}")
        except (TypeError, ValueError):
            name = function.path.rpartition(".")[2]
            self.problems.add("malformed-file", f"calls {name} with arguments that torch.save never writes")
        return Tensor() if "tensor" in function.path.lower() else Opaque("result of a call")

    def _judge(self, path: str) -> Callable[..., object]:
        """What takes the place of an allowed function. Raises TypeError for one that weights never call."""
        if path == "torch._tensor._rebuild_from_type_v2":
            return self._typed
        if path in TENSOR_CLASSES:
            return new_tensor
        judge = TENSOR_CALLS.get(path) or PLAIN_CALLS.get(path)
        if judge is None:
            raise TypeError
        return judge

    def _typed(self, function: object, kind: object, arguments: object, state: object) -> object:
        """A tensor with a class or attributes of its own."""
        if not isinstance(kind, Global) or kind.path not in TENSOR_CLASSES | {"torch.nn.parameter.Parameter"}:
            raise TypeError
        return self.call(function, arguments)

    def build(self, target: object, state: object) -> None:
        """See ``Builder.build``."""
        if isinstance(target, Tensor):
            self._build_tensor(target, state)
        elif not isinstance(target, (Dictionary, Opaque)):
            self.problems.add("unsafe-serialisation", "changes the state of something that is no tensor")

    def _build_tensor(self, target: Tensor, state: object) -> None:
        """Tensors of torch before 0.4: made empty, then given a storage; a parameter gets a tensor instead."""
        try:
            if not isinstance(state, tuple):
                raise TypeError
            if isinstance(state[0], Storage):
                found = make_tensor(*state[:4])
                target.dtype, target.numel, target.storage = found.dtype, found.numel, found.storage
                target.start, target.stop = found.start, found.stop
                state[0].used[-1] = target
        except MismatchError as error:
            self.problems.add("inconsistent-tensors", f"holds a tensor {error}")
        except (TypeError, ValueError, IndexError):
            self.problems.add("malformed-file", "gives a tensor a state that torch.save never writes")

    def persistent(self, identifier: object) -> object:
        """See ``Builder.persistent``."""
        if not isinstance(identifier, tuple) or not identifier or identifier[0] not in ("storage", b"storage"):
            self.problems.add("unsafe-serialisation", "asks for an object from outside that is no storage")
            return Opaque("object from outside")
        try:
            return self._storage(*identifier[1:])
        except MismatchError as error:
            self.problems.add("inconsistent-tensors", f"holds a storage {error}")
        except (TypeError, ValueError):
            self.problems.add("malformed-file", "describes a storage in a way that torch.save never writes")
        return Opaque("storage")

    def _storage(self, kind: object, key: object, location: object, numel: object, *view: object) -> Storage:
        dtype = storage_type(kind)
        key = key.decode("ascii") if isinstance(key, bytes) else key
        if not isinstance(key, str) or not STORAGE_KEY.fullmatch(key) or not isinstance(location, (str, bytes)):
            raise ValueError
        if len(view) != self._views:
            raise ValueError
        size = natural(numel) * dtype.unit
        storage = self.storages.setdefault(key, Storage(key=key, dtype=dtype, size=size))
        if (storage.dtype, storage.size) != (dtype, size):
            raise MismatchError(f"{shown(key)} that is described in two ways")
        return self._part(storage, view[0]) if view and view[0] is not None else storage

    def _part(self, whole: Storage, view: object) -> Storage:
        """A storage within another, which files of torch before 0.4 have."""
        if not isinstance(view, tuple) or len(view) != 3:
            raise ValueError
        key, offset, numel = view
        if not isinstance(key, str) or not STORAGE_KEY.fullmatch(key):
            raise ValueError
        start, size = natural(offset) * whole.dtype.unit, natural(numel) * whole.dtype.unit
        if start + size > whole.size:
            raise MismatchError(f"{shown(key)} that lies outside the one it is part of")
        part = self.parts.setdefault(key, Storage(key=key, dtype=whole.dtype, size=size, whole=whole, offset=start))
        if (part.whole, part.offset, part.size) != (whole, start, size):
            raise MismatchError(f"{shown(key)} that is described in two ways")
        return part
