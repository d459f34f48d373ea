"""Numbers modulo 2^32, as KCP's sn, una and ts are: compared by wrapped difference; what bytes may be."""

from __future__ import annotations

Bytes = bytes | bytearray | memoryview

MASK32 = 0xFFFFFFFF
HALF32 = 0x80000000


def diff32(a: int, b: int) -> int:
    """`a - b` wrapped to -2^31 .. 2^31 - 1: negative when `a` comes before `b`."""
    return ((a - b + HALF32) & MASK32) - HALF32


def add32(a: int, b: int) -> int:
    """`a + b` modulo 2^32."""
    return (a + b) & MASK32
