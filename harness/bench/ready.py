"""Whether a system carries anything yet: that its ports are open does not say so.

Of five starts of kcptube, for example, two accept connections and end them for half a minute, because the
first datagrams of its handshake were lost. A byte there and back through the entry is asked of every system.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from harness.bench.places import Place
from harness.bench.systems.base import Address
from harness.process import Failed

# kcptube begins a handshake anew after 30 s; whoever else is ready at all is so within a second.
PATIENCE_S = 45.0

# Until the next one. TCP repeats a first segment that was lost after 1 and 3 s; UDP takes a round trip.
ATTEMPT_S = {"tcp": 5.0, "udp": 1.0}

PAUSE_S = 0.1

ECHO = b"E"  # What a connection or a packet begins with that the target shall send back (load.h)

PACKET = ECHO + b" are you there?"


def await_answer(
    place: Place,
    address: Address,
    protocol: str,
    check: Callable[[], None] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Return once a byte (`tcp`) or a packet (`udp`) has come back from the target through `address`.

    `check` is called in between and may raise. Raises Failed with what the last attempt met.
    """
    until_s = time.monotonic() + patience_s
    attempt = _tcp if protocol == "tcp" else _udp
    with place.near_socket(socket.SOCK_DGRAM) as packets:  # one for all attempts: answers may come late
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
                raise Failed(f"nothing came back through it for {patience_s:.0f} s ({protocol}: {reason})")
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
