"""Opcodes of pickles that make containers and put values into them."""

from __future__ import annotations

from ._pickle_state import State
from ._values import BrokenError, Dictionary, Global, Opaque, Tensor


class ContainerOpcodes(State):
    """A method for each such opcode; ``_pickle.METHODS`` says which."""

    def push_tuple(self) -> None:
        items = tuple(self.since_mark())
        self.stack.append(items)

    def push_empty_tuple(self) -> None:
        self.stack.append(())

    def push_tuple1(self) -> None:
        self._tuple_of(1)

    def push_tuple2(self) -> None:
        self._tuple_of(2)

    def push_tuple3(self) -> None:
        self._tuple_of(3)

    def _tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def push_empty_list(self) -> None:
        self.stack.append([])

    def push_list(self) -> None:
        items = self.since_mark()
        self.stack.append(items)

    def push_empty_dict(self) -> None:
        self.stack.append(Dictionary())

    def push_dict(self) -> None:
        items = self.since_mark()
        self.stack.append(Dictionary())
        self._put(items)

    def push_empty_set(self) -> None:
        self.stack.append(Opaque("set"))

    def push_frozen_set(self) -> None:
        self.since_mark()
        self.stack.append(Opaque("set"))

    def append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def append_all(self) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):  # that of a call that was judged already
            raise BrokenError("appends to something that is no list")

    def add_all(self) -> None:
        self.since_mark()
        self.stack[-1]

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def set_items(self) -> None:
        self._put(self.since_mark())

    def _put(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Dictionary):
            target.size += len(items) // 2
        elif not isinstance(target, Opaque):
            raise BrokenError("puts items into something that is no dict")
        if len(items) % 2 or (isinstance(target, Dictionary) and target.fixed):
            raise BrokenError("puts items where there can be none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _may_be_key(key):
                raise BrokenError("has containers for keys")
            if isinstance(value, Tensor) and not value.name and isinstance(key, str):
                value.name = key


def _may_be_key(key: object) -> bool:
    """Hashing tuples of tuples may take forever; no weights have such keys."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or isinstance(part, (str, bytes, int, float, Global, Opaque)) for part in parts)
