"""The values that name a place in the network: addresses, names, ports, mapping lines and allow rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from netaddr import INET_PTON, AddrFormatError, IPAddress, IPNetwork

from kcpg.app.config.model import AllowRule, Mapping
from kcpg.app.config.values import BLANKS, PORT_MAX, BadValue, Remarks, uncomment, whole_number

PORTS_MAX = 65535  # Most mapped ports in one line: one address has no more

NAME_MAX = 253  # Longest DNS name in text form (RFC 1035)

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")  # Linux: interface names have at most 15 characters


@dataclass(frozen=True, slots=True)
class Ports:
    """A port list, or `{}` (custom)."""

    custom: bool
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Addresses:
    """An address list, or `{}` (custom)."""

    custom: bool
    names: tuple[str, ...]


def literal(text: str) -> str | None:
    """Canonical form of an IP address, which may have brackets and, if IPv6, a zone; None for anything
    else."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if ":" not in text:
            return None
    bare, percent, zone = text.partition("%")
    try:
        address = IPAddress(bare, flags=INET_PTON)
    except (AddrFormatError, ValueError, TypeError):
        return None
    if percent:
        return f"{address}%{zone}" if address.version == 6 and _ZONE.match(zone) else None
    return str(address)


def version(address: str) -> int | None:
    """4 or 6 for a literal in canonical form, None for a name. A v4-mapped IPv6 address is 6."""
    bare = address.partition("%")[0]
    try:
        return int(IPAddress(bare, flags=INET_PTON).version)
    except (AddrFormatError, ValueError):
        return None


def host(text: str) -> str:
    """A literal in canonical form or a lower-case name in ASCII form. Raises BadValue."""
    found = literal(text)
    if found is not None:
        return found
    if "://" in text:
        name = text.partition("://")[2].partition("/")[0].partition(":")[0]
        raise BadValue(f"'{text}' is a URL, not an address", f"write the name alone: {name}")
    if "[" in text or "]" in text or text.count(":") > 1:
        raise BadValue(f"'{text}' is not an IPv6 address")
    if ":" in text:
        raise BadValue(f"'{text}' is not an address", "the port belongs in a key of its own")
    return _name(text)


def nowhere(address: str) -> str:
    """Why nothing can be sent to this literal; empty for any other address and for a name."""
    bare, _, zone = address.partition("%")
    if version(address) is None:
        return ""
    found = IPAddress(bare, flags=INET_PTON)
    if int(found) == 0:
        return f"{address} means every address of a machine, which only listen_on may have"
    if found.is_multicast() or str(found) == "255.255.255.255":
        return f"{address} is the address of many machines"
    if found.version == 6 and found.is_link_local() and not zone:
        return f"{address} is a link-local address, which needs its interface, as in {address}%eth0"
    return ""


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise BadValue(f"'{_printable(text)}' is not a name") from None
    labels = name.split(".")
    if labels[-1].isdigit():
        # No top-level domain is a number (RFC 3696), so this is a mistyped IPv4 address.
        raise BadValue(f"'{text}' is not an IPv4 address")
    if len(name) > NAME_MAX or not all(_LABEL.match(label) for label in labels):
        raise BadValue(f"'{_printable(text)}' is neither an address nor a name")
    return name


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


def address_list(text: str, remarks: Remarks) -> Addresses:
    """Comma-separated literals and names, sorted, without duplicates; or `{}`."""
    bare = uncomment(text, remarks)
    if bare == "{}":
        return Addresses(custom=True, names=())
    items = [item.strip(BLANKS) for item in bare.split(",")]
    if not all(items):
        raise BadValue("an address is missing between commas")
    return Addresses(custom=False, names=tuple(sorted({host(item) for item in items})))


def single_host(text: str, remarks: Remarks) -> str:
    """One name or literal."""
    return host(uncomment(text, remarks))


def host_port(text: str, remarks: Remarks) -> str:
    """`host` or `host:port`, canonical, an IPv6 literal with a port in brackets."""
    bare = uncomment(text, remarks)
    name, port = _split_port(bare)
    if port is None:
        return host(bare)
    name = host(name)
    return f"[{name}]:{_port(port, remarks)}" if ":" in name else f"{name}:{_port(port, remarks)}"


def port_list(text: str, remarks: Remarks) -> Ports:
    """`3000`, `3000-3010`, or both separated by commas; sorted, without duplicates; or `{}`."""
    bare = uncomment(text, remarks)
    if bare == "{}":
        return Ports(custom=True, numbers=())
    numbers: set[int] = set()
    for item in bare.split(","):
        low, high = _port_range(item.strip(BLANKS), remarks)
        numbers.update(range(low, high + 1))
    return Ports(custom=False, numbers=tuple(sorted(numbers)))


def _port_range(item: str, remarks: Remarks) -> tuple[int, int]:
    if not item:
        raise BadValue("a port is missing between commas")
    first, dash, second = item.partition("-")
    low = _port(first, remarks)
    if not dash:
        return low, low
    high = _port(second, remarks)
    if low > high:
        raise BadValue(f"the range {low}-{high} runs backwards", f"write {high}-{low}")
    if low == high:
        remarks.append(f"the range {low}-{high} holds one port only")
    return low, high


def _port(text: str, remarks: Remarks) -> int:
    if not text.strip(BLANKS):
        raise BadValue("a port number is missing", "for example 3000, 3000-3010 or 3000-3010,4000")
    number = whole_number(text, remarks)
    if not 1 <= number <= PORT_MAX:
        raise BadValue(f"port {number} is not in 1-{PORT_MAX}")
    return number


def _split_port(text: str) -> tuple[str, str | None]:
    """Split `host:port` or `[v6]:port`; the port is None if there is none. Raises nothing."""
    if text.startswith("["):
        name, bracket, rest = text.partition("]")
        return name + bracket, rest[1:] if rest.startswith(":") else None
    if text.count(":") == 1:
        name, _, port = text.partition(":")
        return name, port
    return text, None


def mapping_line(text: str, tcp: bool, udp: bool, remarks: Remarks) -> list[Mapping]:
    """`address:ports -> address:ports`: one Mapping per local port. A range maps to a range of the same
    length, or to one port."""
    left, _, right = uncomment(text, remarks).partition("->")
    listen_address, (low, high) = _mapping_side(left.strip(BLANKS), "left", remarks)
    if listen_address and version(listen_address) is None:
        raise BadValue(f"'{listen_address}' is a name; the left side must be an address of this machine")
    target_address, (first, last) = _mapping_side(right.strip(BLANKS), "right", remarks)
    if not target_address:
        raise BadValue("the right side has no address", "for example 127.0.0.1:8000")
    if first != last and last - first != high - low:
        raise BadValue(f"the left side has {high - low + 1} ports, the right side {last - first + 1}")
    step = 1 if first != last else 0
    return [
        Mapping(listen_address, low + i, target_address, first + i * step, tcp, udp)
        for i in range(high - low + 1)
    ]


def listen_address(text: str, remarks: Remarks) -> str:
    """`address:port` to listen on, canonical, an IPv6 literal in brackets."""
    where, (port, last) = _mapping_side(uncomment(text, remarks), "address", remarks)
    if not where or port != last:
        raise BadValue("is not one address with one port", "for example 127.0.0.1:9150")
    return f"[{where}]:{port}" if ":" in where else f"{where}:{port}"


def is_loopback(host: str) -> bool:
    """Whether this names this machine alone: localhost, or a loopback literal without brackets."""
    return host in ("localhost", "::1") or (version(host) == 4 and host.startswith("127."))


def _mapping_side(text: str, side: str, remarks: Remarks) -> tuple[str, tuple[int, int]]:
    name, port = _split_port(text)
    if port is None:
        hint = (
            "an IPv6 address needs brackets: [::1]:80"
            if text.count(":") > 1
            else "for example 127.0.0.1:8000"
        )
        raise BadValue(f"the {side} side has no port", hint)
    name = name.strip(BLANKS)
    return host(name) if name else "", _port_range(port.strip(BLANKS), remarks)


def allow_list(text: str, remarks: Remarks) -> tuple[AllowRule, ...]:
    """Comma-separated `network`, `name`, `*.name` or `*`, each with an optional `:port` or `:port-port`.

    `!` before one: it denies.
    """
    rules: dict[AllowRule, None] = {}
    for item in uncomment(text, remarks).split(","):
        item = item.strip(BLANKS)
        denies = item.startswith("!")
        rule = _allow_rule(item[denies:].strip(BLANKS), remarks)
        rules[replace(rule, denies=denies)] = None
    return tuple(rules)


def _allow_rule(item: str, remarks: Remarks) -> AllowRule:
    if not item:
        raise BadValue("a rule is missing between commas")
    where, port = _split_port(item)
    ports = () if port is None else (_port_range(port.strip(BLANKS), remarks),)
    where = where.strip(BLANKS)
    if where == "*":
        return AllowRule(network="", name="*", ports=ports)
    if where.startswith("*."):
        return AllowRule(network="", name="*." + _name(where[2:]), ports=ports)
    network = _network(where)
    if network is not None:
        return AllowRule(network=network, name="", ports=ports)
    return AllowRule(network="", name=host(where), ports=ports)


def _network(text: str) -> str | None:
    """CIDR form of an address or network; None for a name. Raises BadValue for a malformed network."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "/" not in bare and literal(bare) is None:
        return None
    try:
        network = IPNetwork(bare)
    except (AddrFormatError, ValueError):
        raise BadValue(
            f"'{_printable(text)}' is not a network", "for example 10.0.0.0/8 or [fd00::/8]:443"
        ) from None
    if network.ip != network.network:
        raise BadValue(f"{network} has bits beyond its prefix", f"write {network.cidr}")
    return str(network.cidr)
