"""Opcodes of pickles that would look up, call or change an object: here the builder judges what would be done."""

from __future__ import annotations

from ._globals import OLD_MODULES
from ._pickle_state import LONGEST_LINE, State
from ._values import Global, Opaque


class CallOpcodes(State):
    """A method for each such opcode; ``_pickle.METHODS`` says which."""

    def _look_up(self, module: str, name: str) -> Global:
        path = f"{OLD_MODULES.get(module, module)}.{name}"
        path = path if len(path) <= LONGEST_LINE else path[:LONGEST_LINE]
        self.reading.names[path] = None
        return Global(path)

    def push_global(self) -> None:
        self.stack.append(self._look_up(self.text_line(), self.text_line()))

    def push_stacked_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        # What is no text was computed by the pickle itself, which is reason enough to distrust it.
        self.stack.append(self._look_up(*(part if isinstance(part, str) else "?" for part in (module, name))))

    def extension(self, width: int) -> None:
        self.number(width)
        self.stack.append(Opaque("registered extension"))

    def extension1(self) -> None:
        self.extension(1)

    def extension2(self) -> None:
        self.extension(2)

    def extension4(self) -> None:
        self.extension(4)

    def instance(self) -> None:
        found = self._look_up(self.text_line(), self.text_line())
        self._call(found, tuple(self.since_mark()))

    def stacked_instance(self) -> None:
        items = self.since_mark()
        self._call(items[0], tuple(items[1:]))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self._call(function, arguments)

    def new_object_with_names(self) -> None:
        names, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._call(function, (arguments, names))

    def _call(self, function: object, arguments: object) -> None:
        self.stack.append(self.builder.call(function, arguments))

    def build(self) -> None:
        state = self.stack.pop()
        self.builder.build(self.stack[-1], state)

    def persistent(self) -> None:
        self.stack.append(self.builder.persistent(self.stack.pop()))

    def persistent_line(self) -> None:
        self.line()
        self.stack.append(Opaque("object from outside"))
