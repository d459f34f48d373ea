"""From bytes to lines: trims blanks, skips comments, tells sections, `key=value` and mappings apart. Knows
no key."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field

from kcpg.app.config.values import BLANKS, narrow

# A larger file is no configuration: the longest sensible one has a few thousand lines.
FILE_BYTES_MAX = 1 << 20

_KEY_VALUE = re.compile(r"[^=>]*=")
_SECTION = re.compile(rf"\[([^\[\]]*)\](?:[{BLANKS}]*(#.*)?)\Z", re.DOTALL)


class LexError(Exception):
    """The bytes are not a text. The message is for the user."""


class Shape(enum.Enum):
    """The form of a line."""

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
        if line and not line.startswith(("#", "＃")):
            found.append(_line(number, line))
    return found


def _decode(data: bytes) -> str:
    if len(data) > FILE_BYTES_MAX:
        raise LexError(f"the file is larger than {FILE_BYTES_MAX} bytes")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LexError("the file is UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise LexError("the file contains zero bytes, so it is not a text")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _line(number: int, line: str) -> Line:
    if line.startswith("［"):  # as a Chinese keyboard gives it, like the equals sign below
        line = narrow(line)
    section = _SECTION.match(line)
    if section is not None:
        return Line(number, Shape.SECTION, section[1].lower(), section[2] or "")
    # A mapping has no '=' before its arrow. A value, a password for instance, may contain an arrow.
    if _KEY_VALUE.match(line):
        key, _, value = line.partition("=")
        return Line(number, Shape.OPTION, key.strip(BLANKS).lower(), value.strip(BLANKS))
    key, wide, value = line.partition("＝")
    if wide and "->" not in line:
        return Line(number, Shape.OPTION, narrow(key).strip(BLANKS).lower(), value.strip(BLANKS))
    if "->" in line:
        return Line(number, Shape.MAPPING, "", line)
    return Line(number, Shape.OTHER, "", line)
