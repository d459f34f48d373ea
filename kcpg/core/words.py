"""A peer's text as people may read it, in a log, a status or a terminal."""

from __future__ import annotations

_NO_UTF8 = "\ufffd"  # What Python puts in the place of bytes that are none


def printable(data: bytes) -> str:
    """The text with `?` for what is no UTF-8, and for control characters and other marks that move or hide
    what is beside them. In UTF-8 it is no longer than `data`."""
    text = data.decode("utf-8", "replace")
    if text.isprintable() and _NO_UTF8 not in text:
        return text
    return "".join(c if c.isprintable() and c != _NO_UTF8 else "?" for c in text)
