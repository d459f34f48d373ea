"""Checks across the files of one command line: ports used twice, destinations that lead back, and a relay's
time-out against its ends'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netaddr import IPAddress

from kcpg.app.config.addresses import version
from kcpg.app.config.model import FORWARDING_GRACE_S, UDP_TIMEOUT_DEFAULT_S, Role
from kcpg.app.config.raw import Options, RawFile
from kcpg.app.config.report import Report

ListenPort = tuple[str, int]  # Protocol («tcp», «udp») and port


@dataclass(frozen=True, slots=True)
class _Listener:
    """A line that makes a node listen."""

    file: int
    line: int
    ports: frozenset[ListenPort]
    addresses: frozenset[str]  # Literals and names; `*4` and `*6` are all addresses of a family

    def overlaps(self, other: _Listener) -> bool:
        if self.addresses & other.addresses:
            return True
        return any(self._covers(family, other) or other._covers(family, self) for family in (4, 6))

    def _covers(self, family: int, other: _Listener) -> bool:
        wildcard = f"*{family}"
        return wildcard in self.addresses and any(
            address == wildcard or version(address) == family for address in other.addresses
        )


def check_ports(raws: list[RawFile], reports: list[Report]) -> None:
    """Two nodes of one process cannot listen on the same port of the same address."""
    users: dict[ListenPort, list[_Listener]] = {}
    clashes: dict[tuple[_Listener, _Listener], list[ListenPort]] = {}
    for index, raw in enumerate(raws):
        for listener in _listeners(index, raw):
            for port in sorted(listener.ports):
                for earlier in users.get(port, ()):
                    if earlier.overlaps(listener):
                        clashes.setdefault((earlier, listener), []).append(port)
                users.setdefault(port, []).append(listener)
    for (earlier, later), taken in clashes.items():
        ports = _spell(sorted({number for _, number in taken}))
        where = "this file" if earlier.file == later.file else raws[earlier.file].name
        reason = f"line {earlier.line} of {where} already uses {ports}"
        reports[later.file].error(
            later.line, "listen_port", reason, "use other ports or addresses in one of them"
        )


def check_loops(raws: list[RawFile], reports: list[Report]) -> None:
    """No node may connect to the port where a client of the same process waits for applications: each flow
    would be the source of the next one."""
    clients = [(index, raw) for index, raw in enumerate(raws) if raw.role is Role.CLIENT]
    listeners = [listener for index, raw in clients for listener in _listeners(index, raw)]
    for index, raw in enumerate(raws):
        options = raw.forwarder if raw.role is Role.RELAY else raw.outside
        if options is None or raw.role is None:
            continue
        for listener in listeners:
            _check_loop(index, raw.role, options, listener, raws, reports)


def _check_loop(
    index: int, role: Role, options: Options, listener: _Listener, raws: list[RawFile], reports: list[Report]
) -> None:
    protocols = ("tcp", "udp") if role is Role.SERVER else ("udp",)
    numbers = options.ports("destination_port").numbers
    ports = frozenset((protocol, number) for number in numbers for protocol in protocols)
    hit = sorted({number for _, number in ports & listener.ports})
    line = options.line("destination_port")
    names = options.addresses("destination_address").names
    if not hit or not listener.overlaps(_Listener(index, line, ports, _own(names, listener))):
        return
    where = "this file" if listener.file == index else raws[listener.file].name
    reason = f"line {listener.line} of {where} listens on {_spell(hit)} of this machine; flows would return"
    reports[index].error(line, "destination_port", reason, "use another port in one of the two lines")


def _own(names: tuple[str, ...], listener: _Listener) -> frozenset[str]:
    """Those of these addresses that are surely of this machine, as loopback ones are."""
    known = {"localhost": ("127.0.0.1", "::1")}
    all_of_them = [address for name in names for address in known.get(name, (name,))]
    return frozenset(one for one in all_of_them if one in listener.addresses or _is_loopback(one))


def _is_loopback(address: str) -> bool:
    return version(address) is not None and bool(IPAddress(address.partition("%")[0]).is_loopback())


def _listeners(index: int, raw: RawFile) -> Iterator[_Listener]:
    options = raw.listener if raw.role is Role.RELAY else raw.outside
    if options is None or raw.role is None:
        return
    listen_port = options.ports("listen_port")
    numbers = listen_port.numbers[:1] if raw.role is Role.CLIENT else listen_port.numbers
    protocols = ("tcp", "udp") if raw.role is Role.CLIENT else ("udp",)
    if numbers:
        names = options.addresses("listen_on").names
        ports = frozenset((protocol, port) for port in numbers for protocol in protocols)
        yield _Listener(index, options.line("listen_port"), ports, _addresses(names, options))
    if raw.role is Role.CLIENT and (proxy := options.get("socks_port", int)):
        names = options.addresses("listen_on").names or ("::1" if options.flag("ipv6_only") else "127.0.0.1",)
        yield _Listener(index, options.line("socks_port"), frozenset({("tcp", proxy)}), frozenset(names))
    if listen_port.custom or options.addresses("listen_on").custom:
        yield from _mapped(index, raw, options)


def _mapped(index: int, raw: RawFile, options: Options) -> Iterator[_Listener]:
    by_line: dict[tuple[int, str], set[ListenPort]] = {}
    for (address, port, protocol), mapping in raw.mappings.items():
        by_line.setdefault((mapping.line, address), set()).add((protocol, port))
    for (line, address), ports in by_line.items():
        names = (address,) if address else ()
        yield _Listener(index, line, frozenset(ports), _addresses(names, options))


def _addresses(names: tuple[str, ...], options: Options) -> frozenset[str]:
    families = {"0.0.0.0": "*4", "::": "*6"}
    if names:
        return frozenset(families.get(name, name) for name in names)
    found = set() if options.flag("ipv6_only") else {"*4"}
    return frozenset(found if options.flag("ipv4_only") else found | {"*6"})


def _spell(ports: list[int]) -> str:
    """`port 3000`, `ports 3000-3010`, `ports 3000-3010 (7 of them)`."""
    if len(ports) == 1:
        return f"port {ports[0]}"
    whole = ports[-1] - ports[0] + 1 == len(ports)
    return f"ports {ports[0]}-{ports[-1]}" + ("" if whole else f" ({len(ports)} of them)")


def ends_timeout_s(raws: list[RawFile]) -> int:
    """The larger udp_timeout of a relay's two ends.

    Both are known if the same command line has a client and a server; for a missing end, the default is
    assumed.
    """
    ends = [raw for raw in raws if raw.role in (Role.CLIENT, Role.SERVER)]
    known = [raw.outside.get("udp_timeout", int) or UDP_TIMEOUT_DEFAULT_S for raw in ends]
    if {raw.role for raw in ends} != {Role.CLIENT, Role.SERVER}:
        known.append(UDP_TIMEOUT_DEFAULT_S)
    return max(known)


def check_users(raws: list[RawFile], reports: list[Report]) -> None:
    """One process has one user and group."""
    first = next((raw for raw in raws if raw.role is not None), None)
    for raw, report in zip(raws, reports, strict=True):
        for name in ("user", "group"):
            if first is None or raw.role is None or name in raw.outside.bad:
                continue
            mine, theirs = raw.outside.get(name, str), first.outside.get(name, str)
            if mine != theirs:
                reason = f"is {mine or 'not set'} here and {theirs or 'not set'} in {first.name}"
                hint = "one process has one user: set the same in every file"
                report.error(raw.outside.line(name), name, reason, hint)


def check_timeouts(raws: list[RawFile], reports: list[Report]) -> None:
    """Warn about a relay whose udp_timeout is lower than that of its ends."""
    ends_s = ends_timeout_s(raws)
    for raw, report in zip(raws, reports, strict=True):
        if raw.role is not Role.RELAY:
            continue
        for options in (raw.listener, raw.forwarder):
            if options is None or "udp_timeout" in options.bad:
                continue
            own_s = options.get("udp_timeout", int) or UDP_TIMEOUT_DEFAULT_S
            if own_s < ends_s:
                _warn(options, own_s, ends_s, report)


def _warn(options: Options, own_s: int, ends_s: int, report: Report) -> None:
    whose = "the default of its ends" if ends_s == UDP_TIMEOUT_DEFAULT_S else "that of its ends"
    written = "" if options.line("udp_timeout") else " (not set here)"
    reason = (
        f"{own_s}{written} is less than {ends_s}, {whose}; a relay must not forget a flow before they do, "
        f"so it waits {ends_s + FORWARDING_GRACE_S} s"
    )
    hint = "set it to the largest udp_timeout of client and server"
    report.warning(options.line("udp_timeout"), "udp_timeout", reason, hint)
