"""From bytes to lines: blanks trimmed, comments skipped, sections, `key=value` and mappings told apart.
Knows no key."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field

from kcpg.app.config.values import BLANKS

# Larger files are something else; the longest sensible configuration has some thousand lines.
FILE_BYTES_MAX = 1 << 20

_KEY_VALUE = re.compile(r"[^=>]*=")
_SECTION = re.compile(rf"\[([^\[\]]*)\](?:[{BLANKS}]*(#.*)?)\Z", re.DOTALL)


class LexError(Exception):
    """The bytes are no text. The message is for the user."""


class Shape(enum.Enum):
    """What a line looks like."""

    SECTION = enum.auto()
    OPTION = enum.auto()
    MAPPING = enum.auto()
    OTHER = enum.auto()


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is neither empty nor a comment."""

    number: int
    shape: Shape
    # SECTION: the text between the brackets; OPTION: the key; both in lower case, as far as they are ASCII.
    name: str
    # OPTION: the value; MAPPING, OTHER: the line; SECTION: a trailing comment. May be a secret, so it is not
    # shown.
    text: str = field(repr=False)


def lines(data: bytes) -> list[Line]:
    """The lines of a file. Bytes that are not UTF-8 become surrogates, so that values keep them. Raises
    LexError."""
    text = _decode(data)
    found = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(BLANKS)
        if line and not line.startswith("#"):
            found.append(_line(number, line))
    return found


def _decode(data: bytes) -> str:
    if len(data) > FILE_BYTES_MAX:
        raise LexError(f"the file is larger than {FILE_BYTES_MAX} bytes")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LexError("the file is UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise LexError("the file is not a text: it has zero bytes")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _line(number: int, line: str) -> Line:
    section = _SECTION.match(line)
    if section is not None:
        return Line(number, Shape.SECTION, section[1].lower(), section[2] or "")
    # A mapping has no '=' before its arrow; a value may have an arrow (a password, say) and still is a value.
    if _KEY_VALUE.match(line):
        key, _, value = line.partition("=")
        return Line(number, Shape.OPTION, key.strip(BLANKS).lower(), value.strip(BLANKS))
    if "->" in line:
        return Line(number, Shape.MAPPING, "", line)
    return Line(number, Shape.OTHER, "", line)
