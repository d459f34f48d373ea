"""A cable between two namespaces, with addresses at both ends and, optionally, a profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import backends
from harness.backends import Backend, Side
from harness.netns import Lab, Namespace
from harness.process import Failed
from netem.profile import Chance, Impair, Profile

ETHERNET_MTU = 1500

PREFIX_V4, PREFIX_V6 = 24, 64


@dataclass(frozen=True)
class End:
    """One end of a cable, in its namespace. An address is "" if the cable does not carry that family."""

    namespace: Namespace
    device: str
    mac: str
    v4: str
    v6: str

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, IPv4 first."""
        return tuple(address for address in (self.v4, self.v6) if address)


class Link:
    """One cable. `profile` None: a plain wire."""

    def __init__(
        self, number: int, near: End, far: End, profile: Profile | None, seed: str, backend: Backend | None
    ) -> None:
        self.number, self.near, self.far = number, near, far
        self.profile = profile
        self.seed = seed
        self._backend = backend
        self._whole: Profile | None = None  # while it is cut: what it was before

    @property
    def backend(self) -> str:
        """`netem`, `box` or `none`."""
        return self._backend.name if self._backend is not None else "none"

    def change(self, profile: Profile) -> None:
        """Change to another profile, without disturbing traffic."""
        self._running().change(profile)
        self.profile, self._whole = profile, None

    def cut(self) -> None:
        """Drop everything in both directions; both ends still see their cable."""
        if self._whole is None and self.profile is not None:
            whole = self.profile
            self.change(replace(whole, up=_blocked(whole.up), down=_blocked(whole.down)))
            self._whole = whole

    def mend(self) -> None:
        """Undo the cut."""
        if self._whole is not None:
            self.change(self._whole)

    def restart(self, seed: str | None = None, at_ns: int = 0) -> None:
        """Reset the counters, and restart the seed's pattern from its first packet.

        `at_ns`: since the beginning of the line's timeline.
        """
        self.seed = seed or self.seed
        self._running().restart(self.seed, at_ns)

    def facts(self) -> dict[str, dict[str, Any]]:
        """For "up" (what `near` sends) and "down": frames, sent, sent_bytes, drops by reason."""
        return self._running().facts()

    @property
    def captures(self) -> tuple[Path, ...]:
        """Captures of the near and the far end, if the link box writes them."""
        directory = self._running().captures
        return () if directory is None else (directory / "a.pcap", directory / "b.pcap")

    def close(self) -> None:
        """End its processes; its interfaces go with their namespaces."""
        if self._backend is not None:
            self._backend.close()

    def _running(self) -> Backend:
        if self._backend is None:
            raise Failed(f"the cable {self.near.device}-{self.far.device} has no profile")
        return self._backend


def connect(
    lab: Lab,
    number: int,
    near: Namespace,
    far: Namespace,
    profile: Profile | None,
    *,
    seed: str = "1",
    mtu: int = ETHERNET_MTU,
    v4: bool = True,
    v6: bool = True,
    backend: str | None = None,
    capture: bool = False,
) -> Link:
    """Lay cable `number` (1 to 250) of a topology; its devices are called eth<number> at both ends.

    Addresses: 10.77.<number>.1 and fd77:<number>::1 near, .2 and ::2 far. Neighbours are fixed, so that
    nobody asks for them. With `capture`, the link box captures both ends.
    """
    device = f"eth{number}"
    ends = [
        End(
            namespace,
            device,
            f"02:77:00:00:{number:02x}:{which:02x}",
            f"10.77.{number}.{which}" if v4 else "",
            f"fd77:{number:x}::{which}" if v6 else "",
        )
        for which, namespace in ((1, near), (2, far))
    ]
    seed = f"{seed}:{number}"
    start = None
    if profile is None:
        lab.veth(near, device, far, device)
    else:
        sides = (Side(near, device), Side(far, device))
        start = backends.open_cable(lab, sides, profile, seed, backend, capture)
    for own, other in (ends, reversed(ends)):
        _configure(own, other, mtu)
    return Link(number, ends[0], ends[1], profile, seed, start() if start is not None else None)


def _configure(own: End, other: End, mtu: int) -> None:
    device = own.device
    lines = [f"link set {device} address {own.mac}", f"link set {device} mtu {mtu}"]
    if own.v4:
        lines.append(f"addr add {own.v4}/{PREFIX_V4} dev {device}")
    lines.append(f"link set {device} up")  # IPv6 addresses need it to be up
    if own.v6:
        lines.append(f"addr add {own.v6}/{PREFIX_V6} dev {device} nodad")
    lines += [
        f"neigh replace {address} lladdr {other.mac} dev {device} nud permanent"
        for address in other.addresses
    ]
    own.namespace.ip(*lines)


def _blocked(impair: Impair) -> Impair:
    """The same, but losing every packet, with the same loss model, so that tc can change it in place."""
    return replace(impair, loss=Chance(1.0), outage=None)
