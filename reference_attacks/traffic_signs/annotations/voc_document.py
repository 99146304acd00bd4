"""A Pascal VOC annotation file, parsed with line numbers, and without what makes XML from strangers dangerous.

A document type is refused as such: it is where entities are declared, which can name other files or fill the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

_OBJECT = ("annotation", "object")


class BadXmlError(ValueError):
    """The file is not XML, or is XML of a kind that is not read; ``line`` tells where."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(kw_only=True)
class MarkedObject:
    """One ``object`` element: the text of its name and of its box's corners, and the line on which it starts."""

    line: int
    name: str = ""
    corners: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class VocDocument:
    """What an annotation file says: the picture's file name, empty if not given, and the objects in it."""

    picture: str = ""
    objects: list[MarkedObject] = field(default_factory=list)


def parse_voc_document(content: bytes) -> VocDocument:
    """The document in ``content``. Raises BadXmlError."""
    return _Reader().read(content)


class _Reader:
    """Follows the path of open elements, so that a name or box of an object's ``part`` is not taken for its own."""

    def __init__(self) -> None:
        self.document = VocDocument()
        self.path: list[str] = []
        self.text: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self.text.append
        self.parser.StartDoctypeDeclHandler = self._refuse_document_type

    def read(self, content: bytes) -> VocDocument:
        try:
            self.parser.Parse(content, True)
        except expat.ExpatError as error:
            raise BadXmlError(f"this is not XML ({expat.ErrorString(error.code)})", error.lineno) from error
        return self.document

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self.path.append(tag)
        self.text.clear()
        if tuple(self.path) == _OBJECT:
            self.document.objects.append(MarkedObject(line=self.parser.CurrentLineNumber))

    def _end(self, tag: str) -> None:
        text = "".join(self.text).strip()
        match tuple(self.path):
            case ("annotation", "filename"):
                self.document.picture = text
            case ("annotation", "object", "name"):
                self.document.objects[-1].name = text
            case ("annotation", "object", "bndbox", corner):
                self.document.objects[-1].corners[corner] = text
        self.text.clear()
        self.path.pop()

    def _refuse_document_type(self, *_: object) -> None:
        raise BadXmlError("a document type (DOCTYPE) is not accepted", self.parser.CurrentLineNumber)
