"""Numbers modulo 2^32 (KCP's sn, una, ts), compared by wrapped difference; what bytes may be; deadlines."""

from __future__ import annotations

Bytes = bytes | bytearray | memoryview

MASK32 = 0xFFFFFFFF
HALF32 = 0x80000000


def diff32(a: int, b: int) -> int:
    """`a - b` wrapped to -2^31 .. 2^31 - 1: negative when `a` comes before `b`."""
    return ((a - b + HALF32) & MASK32) - HALF32


def earliest(a: int | None, b: int | None) -> int | None:
    """The earlier of two deadlines; None is never."""
    if a is None:
        return b
    return a if b is None or a < b else b


def add32(a: int, b: int) -> int:
    """`a + b` modulo 2^32."""
    return (a + b) & MASK32
