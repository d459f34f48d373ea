"""Sockets, greenlets and the clock around the sans-IO core: the only ring that imports gevent.

Nothing here relies on monkey patching: gevent's own modules are imported by name, and sockets are the plain
non-blocking ones of the standard library (`_socket`), which gevent's would wrap at 500 bytes each.

Tests of what has none of its own name:
    bypass: net/test_bypass_segments.py, net/test_bypass_tcp.py, net/test_bypass_packets.py
    clock: net/test_alarm.py
    datagrams, udp: net/test_udp_io.py
    dial, listening, local, local_tcp, local_udp, loops: net/test_forwarder.py
    proxyport, unix: net/test_local_ends.py
    proxyprotocol, socks: unit/test_preamble.py
    handover: net/test_channel.py, unit/test_workers.py
    lookupshares: net/test_resolve.py
    pktinfo: net/test_asked.py
    tunnelsockets: net/test_driver.py, net/test_chain.py
    txtpeer: net/test_dnstxt.py
"""

from __future__ import annotations

from dataclasses import dataclass

UNIX_PATH_MAX_BYTES = 107  # sockaddr_un(7), without the zero byte

READ = 1  # libev's event bits
WRITE = 2


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person who runs the node may want to know; the process goes on.

    `key` is the same for the same kind of thing (for rate limits and counters), `text` is the line to log.
    """

    key: str
    text: str


def title(name: str) -> str:
    """What messages call the peer whose address is in this name's TXT record."""
    return f"TXT record of {name}"
