"""No tunnel: what the machine and the line give by themselves; and forwarders that do nothing else."""

from __future__ import annotations

from harness.bench import generator
from harness.bench.systems.base import (
    BULK,
    FAR,
    LATENCY,
    LOSSY,
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
    """TCP and UDP straight to the target, TCP with CUBIC, which Linux uses unless told otherwise."""

    name = "direct"
    about = "no tunnel; TCP with CUBIC"
    congestion = "cubic"

    def entry(self, wiring: Wiring) -> Address:
        return wiring.reach


class Bbr(Direct):
    """The same with the congestion control that does best on lossy lines."""

    name = "direct-bbr"
    about = "no tunnel; TCP with BBR"
    protocols = frozenset({"tcp"})
    groups = frozenset({LOSSY})
    congestion = "bbr"


class Copying(Direct):
    """The same with programs that copy what they send and receive, as nearly all do: what iperf3 measures.

    The load generator does neither, so that little of the machine is its own; a tunnel has to.
    """

    name = "direct-copy"
    about = "no tunnel; TCP between programs that copy"
    protocols = frozenset({"tcp"})
    groups = frozenset({BULK})
    copies = True


class Socat(System):
    """A plain TCP forwarder: what copying through one more process costs."""

    name = "socat"
    about = "a TCP forwarder, no encryption"
    protocols = frozenset({"tcp"})
    groups = frozenset({BULK, LATENCY, SHORT})
    peer = True

    def missing(self, settings: Settings) -> str:
        return not_there(settings, "SOCAT", "socat")

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        # -b: of its copies. A listener that forks serves many; backlog, so that 64 may come at once.
        host, port = wiring.entry
        listen = f"TCP4-LISTEN:{port},bind={host},reuseaddr,fork,nodelay,backlog=4096"
        dial = f"TCP4:{wiring.reach[0]}:{wiring.reach[1]},nodelay"
        words = (found(settings, "SOCAT", "socat"), "-b65536", listen, dial)
        return [Part("client", NEAR, words, sockets=(("tcp", port),))]


class UdpRelay(System):
    """No tunnel either, but a lower bound: what two more processes and a UDP socket between them cost.

    It takes what a tunnel takes and hands it on, TCP to UDP to TCP and UDP to UDP to UDP (load/relay.c), with
    the wake-ups and system calls that a tunnel cannot do without, and nothing sealed, kept, ordered or sent
    again. It is no tunnel, since a packet that is lost is lost, and is only measured where nothing gets lost.
    What it adds to direct is the kernel's part of the latency; what a tunnel adds to that is its own.
    """

    name = "udp-relay"
    about = "no tunnel: the wake-ups of two processes alone"
    groups = frozenset({LATENCY})

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        port = wiring.ports[0]
        between = (wiring.server, port)
        nothing = wiring.directory / "counters"  # of the target; a relay counts nothing
        near = generator.words("relay-near", wiring.entry, nothing, _onward(between))
        far = generator.words("relay-far", between, nothing, _onward(wiring.target))
        return [
            Part("client", NEAR, tuple(near), sockets=(("tcp", wiring.entry[1]), ("udp", wiring.entry[1]))),
            Part("server", FAR, tuple(far), sockets=(("udp", port), ("udp", port + 1))),
        ]


def _onward(address: Address) -> dict[str, str | float]:
    return {"to_host": address[0], "to_port": address[1]}
