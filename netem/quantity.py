"""Reads times, rates and percentages, as tc writes them, into integers and fractions.

Every reader raises ValueError with a readable message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Parser = Callable[[Any], Any]

TIME_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
SIZE_BYTES = {"b": 1, "kb": 1024, "mb": 1024**2}  # tc: k and m of bytes are powers of two
RATE_BPS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z%]+)")


def _scaled(value: object, units: dict[str, int], what: str) -> int:
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{value!r} is not a {what}; write a number and one of {', '.join(units)}")
    return round(float(match[1]) * units[match[2]])


def time_ns(value: object) -> int:
    """ "250us", "25ms", "3s" in nanoseconds."""
    return _scaled(value, TIME_NS, "time")


def rate_bps(value: object) -> int:
    """ "750kbit", "1gbit" in bits per second."""
    return _scaled(value, RATE_BPS, "rate")


def size_bytes(value: object) -> int:
    """ "1500b", "64kb", "1mb" in bytes."""
    return _scaled(value, SIZE_BYTES, "size")


def fraction(value: object) -> float:
    """ "0.5%" as 0.005; 0 to 100 %."""
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] != "%" or float(match[1]) > 100:
        raise ValueError(f'{value!r} is not a percentage; write "0%" to "100%"')
    return float(match[1]) / 100


def whole(value: object) -> int:
    """A whole number, 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def count(value: object) -> int:
    """A whole number, 1 or more."""
    if whole(value) == 0:
        raise ValueError("must be at least 1")
    return whole(value)


class Bytes(int):
    """A number of bytes, where there may also be one of packets."""


def count_or_bytes(value: object) -> int:
    """A number of packets, or a size with its unit as `Bytes`; 1 or more."""
    if not isinstance(value, str):
        return count(value)
    return Bytes(count(size_bytes(value)))


def wholes(value: object) -> tuple[int, ...]:
    """A list of whole numbers."""
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list of whole numbers")
    return tuple(whole(item) for item in value)


def tables(value: object) -> list[dict[str, Any]]:
    """A list of tables."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{value!r} is not a list of tables")
    return value


def text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a text")
    return value


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, at least one."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} is not a list of texts")
    return tuple(text(item) for item in value)


def one_of(words: Sequence[str]) -> Parser:
    """A reader of one of these words."""

    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return str(value)

    return read
