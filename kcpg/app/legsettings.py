"""From configuration to the settings of local legs, and those that both dialects share.

Pure, except that it looks up names to listen on.
"""

from __future__ import annotations

from collections.abc import Callable

from kcpg.app.config.model import LegConfig, Mapping
from kcpg.app.wording import counted
from kcpg.core.flow import Target
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.params import MAX_WINDOW
from kcpg.core.stun import DEFAULT_PORT
from kcpg.net import title
from kcpg.net.addr import is_numeric, strip_brackets
from kcpg.net.allow import AllowList
from kcpg.net.local import Bind, LocalDialSettings, LocalListenSettings
from kcpg.net.udp import SocketOptions

# A name's numeric addresses on this machine; raises StartError if it has none.
Lookup = Callable[[str], list[str]]


def local_listen(config: LegConfig, max_flows: int, lookup: Lookup, udp: bool = True) -> LocalListenSettings:
    """Where a client accepts flows: on its listening ports, and on the ports of its mappings. `udp`: whether
    its tunnel carries packets."""
    binds = [Bind(host, port, udp=udp) for host in hosts(config, lookup) for port in config.ports]
    binds += [_mapped(mapping) for mapping in config.mappings]
    if config.socks_port:
        own = hosts(config, lookup) if config.addresses else ["::1" if config.ipv6_only else "127.0.0.1"]
        binds += [Bind(host, config.socks_port, udp=False, proxy=True) for host in own]
    if config.path:
        binds.append(Bind("", 0, udp=False, path=config.path))
    return LocalListenSettings(
        tuple(binds), config.ipv4_only, config.ipv6_only, max_flows, config.proxy_protocol
    )


def hosts(config: LegConfig, lookup: Lookup) -> list[str]:
    """The numeric addresses to listen on, each once; an empty one means every address of the machine."""
    found: dict[str, None] = {}
    for host in config.addresses or ("",):
        found.update(dict.fromkeys(lookup(host) if host and not is_numeric(host) else [host]))
    return list(found)


def local_dial(config: LegConfig) -> LocalDialSettings:
    """Where a server connects its flows to."""
    target = Target(config.addresses[0], config.ports[0]) if config.addresses and config.ports else None
    return LocalDialSettings(
        target=target,
        any_target=config.any_target,
        allow=AllowList(config.allow_targets),
        ipv4_only=config.ipv4_only,
        ipv6_only=config.ipv6_only,
        timeout_ms=round(config.dial_timeout_s * 1000),
        path=config.path,
        proxy_protocol=config.proxy_protocol,
    )


def users_targets(config: LegConfig) -> dict[str, AllowList]:
    """The targets that users of a listener may choose, by their names; those without a rule are missing."""
    return {one.name: AllowList(one.allow_targets) for one in config.users if one.allow_targets is not None}


def destinations(config: LegConfig) -> tuple[Destination, ...]:
    """The next node's hosts and ports. A TXT record holds its port as well, so its port here is 0."""
    if config.dnstxt:
        return (Destination(title(config.dnstxt), (0,)),)
    return tuple(Destination(host, config.ports) for host in config.addresses)


def stun_server(config: LegConfig) -> tuple[str, int]:
    """Host and port of `stun_server`."""
    host, colon, port = config.stun_server.rpartition(":")
    if is_numeric(config.stun_server) or not colon:
        return config.stun_server, DEFAULT_PORT
    return strip_brackets(host), int(port)


def kcp_params(config: LegConfig) -> KcpParams:
    """How a leg's conversations retransmit."""
    return KcpParams(
        nodelay=config.kcp_nodelay,
        interval_ms=config.kcp_interval_ms,
        resend=config.kcp_resend,
        nc=config.kcp_nc,
        snd_wnd=min(config.kcp_snd_wnd_segments, MAX_WINDOW),
        rcv_wnd=min(config.kcp_rcv_wnd_segments, MAX_WINDOW),
        auto=config.kcp_auto,
    )


def ranges(ports: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Sorted ports as inclusive ranges: (1, 2, 3, 7) as ((1, 3), (7, 7))."""
    found: list[tuple[int, int]] = []
    for port in ports:
        if found and port == found[-1][1] + 1:
            found[-1] = (found[-1][0], port)
        else:
            found.append((port, port))
    return tuple(found)


def socket_options(config: LegConfig) -> SocketOptions:
    """What the kernel is told about a tunnel's packets."""
    return SocketOptions(config.dscp, config.device, config.fwmark)


def where(config: LegConfig) -> str:
    """A leg's addresses and ports as shown to people: `123.45.67.89:3000-3010`, `*:59000`, `[::1]:59000`."""
    if config.dnstxt:
        return title(config.dnstxt)
    hosts = [f"[{host}]" if ":" in host else host for host in config.addresses] or ["*"]
    ports = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges(config.ports))
    parts = [f"{host}:{ports}" for host in hosts] if ports else []
    if config.mappings:
        parts.append(counted(len(config.mappings), "mapping"))
    if config.socks_port:
        parts.append(f"proxy at {config.socks_port}")
    if config.path:
        parts.append(config.path)
    if config.any_target:
        parts.append("any target")
    return ",".join(parts)


def _mapped(mapping: Mapping) -> Bind:
    target = Target(mapping.target_address, mapping.target_port)
    return Bind(mapping.listen_address, mapping.listen_port, mapping.tcp, mapping.udp, target)
