"""Whether the peer receives at the address it moved to: asked before much is sent there (RFC 9000, 8.2).

A NAT that gives another port to the same host, as most do, is followed without a question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kcpg.core.native.wire import frames

if TYPE_CHECKING:
    from kcpg.core.native.handshake.envelope import Entropy
    from kcpg.core.native.link.liveness import Liveness
    from kcpg.core.native.wire.wire import LinkWire, Path

# Hosts that answered are not asked again: a dialer that has two ways out, or two kinds of address, comes by
# each of them again and again.
PROVEN_HOSTS = 4

AGAIN_MAX_MS = 5000  # A challenge is repeated after a retransmission time-out, then twice that, up to this


class PathProof:
    """Of one link. `host` gives the part of an address by which hosts differ."""

    def __init__(
        self, link_wire: LinkWire, liveness: Liveness, entropy: Entropy, host: Callable[[bytes], bytes]
    ) -> None:
        self._link_wire = link_wire
        self._liveness = liveness
        self._entropy = entropy
        self._host = host
        self._proven: deque[bytes] = deque(maxlen=PROVEN_HOSTS)
        self._asked = b""  # the host that is challenged; b"": none
        self._token = b""
        self._due_ms = self._wait_ms = 0
        if link_wire.path is not None:
            self._proven.append(host(link_wire.path[1]))  # a handshake's answer arrived there

    @property
    def awaited(self) -> bool:
        """The path in use has not answered yet: little is sent by it."""
        return bool(self._asked)

    def moved(self, path: Path, now_ms: int) -> None:
        """The link sends by this path now, because the peer's newest datagram came by it."""
        host = self._host(path[1])
        self._asked = b"" if host in self._proven else host
        if self._asked:
            self._link_wire.limit_path()
            self._token = self._entropy(frames.OPAQUE_BYTES)
            self._wait_ms = self._liveness.rto_ms
            self._challenge(now_ms)

    def answered(self, token: bytes) -> None:
        """A PATH_RESPONSE came. By whatever path: only who received the challenge knows what was in it."""
        if self._asked and token == self._token:
            self._proven.append(self._asked)
            self._asked = b""
            self._link_wire.prove_path()

    def advance(self, now_ms: int) -> None:
        """Ask again when it is time."""
        if self._asked and self._due_ms <= now_ms:
            self._challenge(now_ms)

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        return self._due_ms if self._asked else None

    def _challenge(self, now_ms: int) -> None:
        self._link_wire.send(frames.PATH_CHALLENGE, self._token)
        self._due_ms = now_ms + self._wait_ms
        self._wait_ms = min(2 * self._wait_ms, AGAIN_MAX_MS)
