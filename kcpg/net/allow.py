"""Which targets flows may name for themselves, so that a server is not an open door into its own network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from netaddr import IPAddress, IPNetwork

from kcpg.core.flow import Target
from kcpg.net import addr as addresses


class Rule(Protocol):
    """One permission. Either `network` (CIDR text) or `name` is set; no `ports` means every port."""

    @property
    def network(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def ports(self) -> tuple[tuple[int, int], ...]: ...


class AllowList:
    """The rules of one leg; no rules (None) permit everything, an empty list nothing."""

    def __init__(self, rules: Iterable[Rule] | None) -> None:
        self._open = rules is None
        self._rules = [
            (IPNetwork(r.network) if r.network else None, r.name.lower(), r.ports) for r in rules or ()
        ]

    def permits(self, target: Target, addr: bytes) -> bool:
        """Whether `target`, whose name (if it is one) gave `addr`, may be connected to.

        The address decides for network rules, so a name cannot be pointed at a network that is not listed.
        """
        if self._open:
            return True
        ip = IPAddress(addresses.to_tuple(addresses.unmapped(addr))[0].partition("%")[0])
        for network, name, ports in self._rules:
            if ports and not any(first <= target.port <= last for first, last in ports):
                continue
            if (ip in network) if network is not None else _name_fits(name, target.host.lower().rstrip(".")):
                return True
        return False


def _name_fits(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern
