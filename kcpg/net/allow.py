"""Which targets flows may name for themselves, so that a server is not an open door into its own network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from netaddr import IPAddress, IPNetwork

from kcpg.core.flow import Target
from kcpg.net import addr as addresses

# What no server opens unasked: link-local addresses (RFC 3927, RFC 4291), where clouds answer a machine with
# its credentials and routers with their set-up, and the clouds' addresses of that kind outside of them.
RESERVED = tuple(
    IPNetwork(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure's agent
        "192.0.0.192/32",  # Oracle Cloud
        "fd00:ec2::254/128",  # AWS
        "fd20:ce::254/128",  # Google Cloud
        "fd00:42::42/128",  # Scaleway
    )
)

# A gateway takes these for the IPv4 address in the last 32 bits (RFC 6052).
_NAT64 = IPNetwork("64:ff9b::/96")

# Connecting to the unspecified address leads to this machine (Linux, connect(2)).
_MEANT = {IPAddress("0.0.0.0"): IPAddress("127.0.0.1"), IPAddress("::"): IPAddress("::1")}


class Rule(Protocol):
    """A permission or a refusal. Either `network` (CIDR text) or `name` is set; no `ports`: every port."""

    @property
    def network(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def ports(self) -> tuple[tuple[int, int], ...]: ...

    @property
    def denies(self) -> bool: ...


class _Rule:
    """A rule that is ready to be applied."""

    def __init__(self, rule: Rule) -> None:
        self.denies = rule.denies
        self._network = IPNetwork(rule.network) if rule.network else None
        self._name = rule.name.lower()
        self._ports = rule.ports

    def fits(self, target: Target, ips: tuple[IPAddress, ...]) -> bool:
        """Whether it is about this target, one of whose addresses, in all its forms, `ips` is."""
        if self._ports and not any(first <= target.port <= last for first, last in self._ports):
            return False
        if self._network is None:
            return _name_fits(self._name, target.host.lower().rstrip("."))
        return any(ip in self._network for ip in ips)

    def lies_in(self, network: IPNetwork) -> bool:
        """Whether it names this network or a part of it."""
        return self._network is not None and self._network in network


class AllowList:
    """The rules of one leg. A refusal wins; without a permission among them all else is permitted.

    None is no rule; an empty list permits nothing. RESERVED takes a permission that names it or a part of it.
    """

    def __init__(self, rules: Iterable[Rule] | None) -> None:
        found = [_Rule(rule) for rule in rules or ()]
        self._denials = [rule for rule in found if rule.denies]
        self._permissions = [rule for rule in found if not rule.denies]
        self._else = rules is None or (bool(found) and not self._permissions)

    def permits(self, target: Target, addr: bytes) -> bool:
        """Whether `target`, whose name (if it is one) gave `addr`, may be connected to.

        The address decides for network rules, so a name cannot be pointed at a network that is denied, or not
        listed.
        """
        ips = _forms(addr)
        if any(rule.fits(target, ips) for rule in self._denials):
            return False
        permissions = [rule for rule in self._permissions if rule.fits(target, ips[:1])]
        for network in RESERVED:
            if any(ip in network for ip in ips):
                return any(rule.lies_in(network) for rule in permissions)
        return self._else or bool(permissions)


def _forms(addr: bytes) -> tuple[IPAddress, ...]:
    """An address as itself, and then as what the kernel or a gateway takes it for."""
    ip = IPAddress(addresses.to_tuple(addresses.unmapped(addr))[0].partition("%")[0])
    if ip in _NAT64:
        return ip, IPAddress(int(ip) & 0xFFFFFFFF, 4)
    return (ip, _MEANT[ip]) if ip in _MEANT else (ip,)


def _name_fits(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern
