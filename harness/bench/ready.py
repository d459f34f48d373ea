"""Checks whether a system carries data yet: open ports do not prove it.

In two of five starts, for example, kcptube accepts connections and ends them for half a minute, because the
first datagrams of its handshake were lost. So every system must first carry a byte through its entry and
back.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from harness.bench.places import Place
from harness.bench.systems.base import Address
from harness.process import Failed

# kcptube restarts a handshake after 30 s; every other system is ready within a second or never.
PATIENCE_S = 45.0

# Time until the next attempt. TCP resends a lost first segment after 1 and 3 s; UDP takes a round trip.
ATTEMPT_S = {"tcp": 5.0, "udp": 1.0}

PAUSE_S = 0.1

ECHO = b"E"  # First byte of a connection or packet that the target should send back (load.h)

PACKET = ECHO + b" are you there?"


def await_answer(
    place: Place,
    address: Address,
    protocol: str,
    check: Callable[[], None] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Return once a byte (`tcp`) or a packet (`udp`) has come back from the target through `address`.

    Calls `check` in between, which may raise. Raises Failed with the error of the last attempt.
    """
    until_s = time.monotonic() + patience_s
    attempt = _tcp if protocol == "tcp" else _udp
    with place.near_socket(socket.SOCK_DGRAM) as packets:  # one for all attempts, since answers may come late
        while True:
            check()
            left_s = until_s - time.monotonic()
            try:
                if attempt(place, packets, address, max(min(ATTEMPT_S[protocol], left_s), PAUSE_S)):
                    return
                reason = "the connection ended"
            except OSError as error:
                reason = str(error)
            if time.monotonic() + PAUSE_S > until_s:
                check()
                raise Failed(f"nothing came back through it within {patience_s:.0f} s ({protocol}: {reason})")
            time.sleep(PAUSE_S)


def _tcp(place: Place, packets: socket.socket, address: Address, seconds: float) -> bool:
    with place.near_socket(socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(address)
        connection.sendall(ECHO + b"?")
        return _right(connection.recv(16), b"?")


def _udp(place: Place, packets: socket.socket, address: Address, seconds: float) -> bool:
    packets.settimeout(seconds)
    packets.connect(address)
    packets.send(PACKET)
    return _right(packets.recv(1 << 16), PACKET)


def _right(answer: bytes, wanted: bytes) -> bool:
    if answer not in (wanted, b""):
        raise Failed(f"{wanted!r} came back as {answer!r}")
    return bool(answer)
