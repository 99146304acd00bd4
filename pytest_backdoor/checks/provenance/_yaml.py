"""Reading YAML that somebody else wrote: strings, lists and tables only, and nothing that readers disagree on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pytest_backdoor.errors import LockError

MAX_CHARACTERS = 200_000
MAX_DEPTH = 20
CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


def read_table(text: str, path: Path) -> dict[str, Any]:
    """The one table that ``text`` is; every scalar is the string that is written, so a hash of digits stays one.

    Raises LockError naming ``path`` for anything else: aliases and anchors (they can expand without end), tags,
    duplicate keys (readers take the last), merge keys, conflict markers, several documents, more than 200 000
    characters.
    """
    if len(text) > MAX_CHARACTERS:
        raise LockError(f"The YAML of {path} is longer than {MAX_CHARACTERS} characters; shorten it.")
    if CONFLICT.search(text):
        raise LockError(f"{path} holds conflict markers of a merge; resolve the conflict.")
    import yaml

    try:
        _refuse_cleverness(text, path)
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        value = _value(node, path)
    except yaml.YAMLError as error:
        raise LockError(f"{path} is not valid YAML ({' '.join(str(error).split())}); correct it.") from error
    except RecursionError as error:
        raise LockError(f"The YAML of {path} is nested too deeply; correct it.") from error
    if not isinstance(value, dict):
        raise LockError(f"The YAML of {path} is not a table of keys and values; correct it.")
    return value


def _refuse_cleverness(text: str, path: Path) -> None:
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise LockError(f"The YAML of {path} is nested too deeply; correct it.")
        if getattr(event, "anchor", None):  # of aliases too
            raise LockError(f"The YAML of {path} uses anchors or aliases; write the values out.")
        tag = getattr(event, "tag", None)
        if tag:
            raise LockError(f"The YAML of {path} uses the tag {tag}; remove it.")


def _value(node: Any, path: Path) -> Any:
    import yaml

    if isinstance(node, yaml.MappingNode):
        table: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _value(key_node, path)
            if not isinstance(key, str) or key == "<<":
                raise LockError(f"The YAML of {path} has a key that is no plain text; correct it.")
            if key in table:
                raise LockError(f"The YAML of {path} has the key {key!r} twice; remove one.")
            table[key] = _value(value_node, path)
        return table
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path) for item in node.value]
    return node.value if node is not None else None
