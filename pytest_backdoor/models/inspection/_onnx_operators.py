"""Whether an ONNX model's versions and operators are known, and how much its functions unfold to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ._contrib import BUILT_IN
from ._problems import Problems, shown
from ._wire import MalformedError, Message, Reader

# The largest image classifiers have some thousand nodes; more only keeps whoever reads them busy.
MAX_NODES = 200_000
STANDARD = ("", "ai.onnx")
# Fields of onnx.ModelProto, FunctionProto, NodeProto and OperatorSetIdProto.
IR_VERSION, GRAPH, IMPORTS = 1, 7, 8
FUNCTION_NAME, FUNCTION_IMPORTS, FUNCTION_DOMAIN, FUNCTION_OVERLOAD = 1, 9, 10, 13
NODE_OPERATOR, NODE_DOMAIN, NODE_OVERLOAD = 4, 7, 8
IMPORT_DOMAIN, IMPORT_VERSION = 1, 2
Key = tuple[str, str, str]  # domain, operator, overload


@dataclass(slots=True)
class Scope:
    """The main graph, or one function: the versions it imports and the operators it calls, with how often."""

    versions: dict[str, int]
    calls: Counter[Key] = field(default_factory=Counter)


@dataclass
class OperatorCheck:
    """Gathers versions, functions and nodes while the file is walked through, and judges them at the end."""

    reader: Reader
    problems: Problems
    main: Scope = field(default_factory=lambda: Scope({}))
    functions: dict[Key, Scope] = field(default_factory=dict)
    ir_version: int = 0
    _nodes: int = 0

    def look(self, message: Message) -> None:
        """One message of the file; sets the scope of what lies within functions. Raises MalformedError."""
        name = message.kind.name
        if name == "ModelProto":
            self.ir_version = message.integer(IR_VERSION)
            self.main.versions = self._versions(message, IMPORTS)
            message.scope = self.main
            if GRAPH not in message.values:
                raise MalformedError("it holds no graph")
        elif name == "FunctionProto":
            overload = message.text(FUNCTION_OVERLOAD)
            key = _domain(message.text(FUNCTION_DOMAIN)), message.text(FUNCTION_NAME), overload
            if key in self.functions:
                raise MalformedError(f"it defines the function {shown(key[1])} twice, so readers may disagree")
            message.scope = self.functions[key] = Scope(self._versions(message, FUNCTION_IMPORTS))
        elif name == "NodeProto":
            self._nodes += 1
            if self._nodes > MAX_NODES:
                raise MalformedError(f"it has more than {MAX_NODES:,} operators")
            domain, overload = _domain(message.text(NODE_DOMAIN)), message.text(NODE_OVERLOAD)
            message.scope.calls[domain, message.text(NODE_OPERATOR), overload] += 1

    def finish(self) -> None:
        """Judge what was gathered. Raises MalformedError."""
        self._judge_versions()
        # Many calls of one function are one question.
        asked = {
            (domain, name, self._version(scope, domain))
            for scope in (self.main, *self.functions.values())
            for domain, name, overload in scope.calls
            if (domain, name, overload) not in self.functions
        }
        unknown = sorted(key for key in asked if not self._is_known(*key))
        if unknown:
            names = ", ".join(f"{_named(domain, name)} (version {version})" for domain, name, version in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            self.problems.add(
                "custom-operators",
                f"uses operators that are neither part of ONNX nor built into ONNX Runtime: {names}{more}",
            )
        for domain, name, _ in self.functions:
            if self._is_known(domain, name, self._version(self.main, domain)):
                raise MalformedError(f"it defines {_named(domain, name)} anew, so readers may disagree on what it does")
        self._count_nodes()

    def _versions(self, message: Message, number: int) -> dict[str, int]:
        versions: dict[str, int] = {}
        for entry in message.children(number, self.reader):
            domain, version = _domain(entry.text(IMPORT_DOMAIN)), entry.integer(IMPORT_VERSION)
            if versions.setdefault(domain, version) != version:
                raise MalformedError(f"it asks for two versions of the operators {_named(domain, '*')}")
        return versions

    def _version(self, scope: Scope, domain: str) -> int:
        return scope.versions.get(domain, self.main.versions.get(domain, 1))

    @cached_property
    def _newest(self) -> Mapping[str, int]:
        import onnx

        known = {domain: newest for domain, (_, newest) in onnx.defs.C.schema_version_map().items()}
        return known | {"com.microsoft": 1}

    def _judge_versions(self) -> None:
        import onnx

        if not 1 <= self.ir_version <= onnx.IR_VERSION:
            text = f"is written in version {self.ir_version} of the format; onnx {onnx.__version__} knows up to "
            self.problems.add("unsupported-version", f"{text}{onnx.IR_VERSION}")
        asked = {item for scope in (self.main, *self.functions.values()) for item in scope.versions.items()}
        for domain, version in sorted(asked):
            newest = self._newest.get(domain)
            if newest is not None and not 1 <= version <= newest:
                text = f"asks for version {version} of the operators {_named(domain, '*')}; known are 1 to {newest}"
                self.problems.add("unsupported-version", text)

    def _is_known(self, domain: str, name: str, version: int) -> bool:
        import onnx

        newest = self._newest.get(domain)
        if newest is None:
            return False
        if name in BUILT_IN.get(domain, ()):
            return True
        try:
            # A version that is too new was reported already; what it is called is judged by the newest one.
            onnx.defs.get_schema(name, min(max(version, 1), newest), domain)
        except onnx.defs.SchemaError:
            return False
        return True

    def _count_nodes(self) -> None:
        """Refuse functions that call themselves, and what is too large once every call is written out."""
        sizes: dict[Key, int] = {}
        pending: list[Key] = list(self.functions)
        open_keys: set[Key] = set()
        while pending:
            key = pending[-1]
            inner = [call for call in self.functions[key].calls if call in self.functions and call not in sizes]
            if key in sizes or not inner:
                sizes.setdefault(key, self._size(self.functions[key], sizes))
                open_keys.discard(pending.pop())
            elif key in open_keys:
                raise MalformedError(f"its function {_named(*key[:2])} calls itself")
            else:
                open_keys.add(key)
                pending += inner
        nodes = self._size(self.main, sizes)
        if nodes > MAX_NODES:
            raise MalformedError(f"its functions unfold to more than {MAX_NODES:,} operators")

    def _size(self, scope: Scope, sizes: Mapping[Key, int]) -> int:
        # More than the most is as bad as any larger number, which could have any number of digits.
        return min(sum(times * (1 + sizes.get(key, 0)) for key, times in scope.calls.items()), MAX_NODES + 1)


def _domain(name: str) -> str:
    return "" if name in STANDARD else name


def _named(domain: str, name: str) -> str:
    return shown(f"{domain or 'ai.onnx'}:{name}")
