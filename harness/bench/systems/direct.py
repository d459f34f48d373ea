"""No tunnel: what the machine and the line can do by themselves; and plain forwarders."""

from __future__ import annotations

from harness.bench import generator
from harness.bench.systems.base import (
    BULK,
    FAR,
    LATENCY,
    LOSSY,
    MOBILE,
    NEAR,
    SHORT,
    Address,
    Part,
    Settings,
    System,
    Wiring,
    found,
    not_there,
)


class Direct(System):
    """TCP and UDP straight to the target, TCP with CUBIC, Linux's default."""

    name = "direct"
    about = "no tunnel; TCP with CUBIC"
    congestion = "cubic"

    def entry(self, wiring: Wiring) -> Address:
        return wiring.reach


class Bbr(Direct):
    """The same with BBR, which does best on lossy lines."""

    name = "direct-bbr"
    about = "no tunnel; TCP with BBR"
    protocols = frozenset({"tcp"})
    groups = frozenset({LOSSY, MOBILE})
    congestion = "bbr"


class Copying(Direct):
    """The same with programs that copy what they send and receive, as nearly all do, and as iperf3 measures.

    The load generator avoids that, to leave the machine to the system; a tunnel cannot avoid it.
    """

    name = "direct-copy"
    about = "no tunnel; TCP between programs that copy"
    protocols = frozenset({"tcp"})
    groups = frozenset({BULK})
    copies = True


class Socat(System):
    """A plain TCP forwarder: the cost of copying through one more process."""

    name = "socat"
    about = "a TCP forwarder, no encryption"
    protocols = frozenset({"tcp"})
    groups = frozenset({BULK, LATENCY, SHORT})
    peer = True

    def missing(self, settings: Settings) -> str:
        return not_there(settings, "SOCAT", "socat")

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        # -b: its buffer size. The listener forks to serve many; the backlog lets 64 connect at once.
        host, port = wiring.entry
        listen = f"TCP4-LISTEN:{port},bind={host},reuseaddr,fork,nodelay,backlog=4096"
        dial = f"TCP4:{wiring.reach[0]}:{wiring.reach[1]},nodelay"
        words = (found(settings, "SOCAT", "socat"), "-b65536", listen, dial)
        return [Part("client", NEAR, words, sockets=(("tcp", port),))]


class UdpRelay(System):
    """A lower bound for tunnels: the cost of two more processes with a UDP socket between them.

    It forwards TCP over UDP to TCP, and UDP over UDP to UDP (load/relay.c), with the wake-ups and system
    calls that no tunnel can avoid. It encrypts, stores, orders and resends nothing. It is no tunnel, since it
    does not recover losses, so it is measured only where none occur. Its latency over direct is the kernel's
    part; what a tunnel adds to that is its own.
    """

    name = "udp-relay"
    about = "no tunnel: the wake-ups of two processes alone"
    groups = frozenset({LATENCY})

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        port = wiring.ports[0]
        between = (wiring.server, port)
        nothing = wiring.directory / "counters"  # the target's; a relay counts nothing
        near = generator.words("relay-near", wiring.entry, nothing, _onward(between))
        far = generator.words("relay-far", between, nothing, _onward(wiring.target))
        return [
            Part("client", NEAR, tuple(near), sockets=(("tcp", wiring.entry[1]), ("udp", wiring.entry[1]))),
            Part("server", FAR, tuple(far), sockets=(("udp", port), ("udp", port + 1))),
        ]


def _onward(address: Address) -> dict[str, str | float]:
    return {"to_host": address[0], "to_port": address[1]}
