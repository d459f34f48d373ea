"""No tunnel: what the machine and the line give by themselves; and a forwarder that does nothing else."""

from __future__ import annotations

from harness.bench.systems.base import (
    BULK,
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
