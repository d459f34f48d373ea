"""From a configuration to what the legs of a node want to be told. Pure, except that names to listen on are
looked up."""

from __future__ import annotations

from collections.abc import Callable

from kcpg.app.config.model import Action, FecConfig, LegConfig, Mapping
from kcpg.core.flow import Target
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.dial.attempt import Destination
from kcpg.core.native.dial.dialer import DialSettings
from kcpg.core.native.handshake.params import FEC_AUTO, FEC_OFF, MAX_PORT_RANGES, MAX_WINDOW, Fec, LinkParams
from kcpg.core.native.link.link import LinkLimits
from kcpg.core.native.listener import ListenSettings
from kcpg.core.stun import DEFAULT_PORT
from kcpg.net.addr import is_numeric, strip_brackets
from kcpg.net.allow import AllowList
from kcpg.net.local import Bind, LocalDialSettings, LocalListenSettings
from kcpg.net.txtpeer import title

MAX_LINK_FLOWS = 65_535
"""Conversations of one link: the default of `LinkLimits`, more than the source ports of one peer."""

Lookup = Callable[[str], list[str]]
"""A name's numeric addresses on this machine; raises StartError if it has none."""


def local_listen(config: LegConfig, max_flows: int, lookup: Lookup) -> LocalListenSettings:
    """Where a client takes its applications' flows: its listening ports, and the ports of its mappings."""
    binds = [Bind(host, port) for host in hosts(config, lookup) for port in config.ports]
    binds += [_mapped(mapping) for mapping in config.mappings]
    return LocalListenSettings(tuple(binds), config.ipv4_only, config.ipv6_only, max_flows)


def hosts(config: LegConfig, lookup: Lookup) -> list[str]:
    """The numeric addresses to listen on, each once; an empty one stands for every address of the machine."""
    found: dict[str, None] = {}
    for host in config.addresses or ("",):
        found.update(dict.fromkeys(lookup(host) if host and not is_numeric(host) else [host]))
    return list(found)


def local_dial(config: LegConfig) -> LocalDialSettings:
    """Where a server connects flows to."""
    target = Target(config.addresses[0], config.ports[0]) if config.addresses and config.ports else None
    return LocalDialSettings(
        target=target,
        any_target=config.any_target,
        allow=AllowList(config.allow_targets),
        ipv4_only=config.ipv4_only,
        ipv6_only=config.ipv6_only,
        timeout_ms=round(config.dial_timeout_s * 1000),
    )


def tunnel_dial(config: LegConfig, max_flows: int) -> DialSettings:
    """How a client or a relay reaches the next node: every address is the same peer, any port will do."""
    return DialSettings(
        name=config.section or "tunnel",
        targets=destinations(config),
        params=link_params(config),
        kcp=kcp_params(config),
        find_mtu=config.finds_mtu,
        hop_every_ms=config.dport_refresh_s * 1000,
        paths=config.mux_tunnels,
        flow_wait_ms=config.dial_timeout_s * 1000,
        # The link stays up without flows, so that the next flow pays for no handshake.
        limits=LinkLimits(max_flows=min(max_flows, MAX_LINK_FLOWS), idle_ms=None),
    )


def destinations(config: LegConfig) -> tuple[Destination, ...]:
    """The next node's hosts and ports. One that stands in a TXT record brings its port with its address."""
    if config.dnstxt:
        return (Destination(title(config.dnstxt), (0,)),)
    return tuple(Destination(host, config.ports) for host in config.addresses)


def stun_place(config: LegConfig) -> tuple[str, int]:
    """Host and port of `stun_server`."""
    host, colon, port = config.stun_server.rpartition(":")
    if is_numeric(config.stun_server) or not colon:
        return config.stun_server, DEFAULT_PORT
    return strip_brackets(host), int(port)


def tunnel_listen(config: LegConfig, max_flows: int) -> ListenSettings:
    """What a server or a relay offers to dialers, and how much one of them may open."""
    return ListenSettings(
        name=config.section or "tunnel",
        params=link_params(config),
        kcp=kcp_params(config),
        find_mtu=config.finds_mtu,
        limits=LinkLimits(max_flows=min(max_flows, MAX_LINK_FLOWS)),
    )


def link_params(config: LegConfig) -> LinkParams:
    """What this end wants of a link. Values that later features bring stay at their defaults."""
    told = ranges(config.ports) if config.action is Action.LISTEN else ()
    return LinkParams(
        algorithm=config.algorithm,
        datagram_bytes=config.datagram_bytes,
        snd_wnd=min(config.kcp_snd_wnd_segments, MAX_WINDOW),
        rcv_wnd=min(config.kcp_rcv_wnd_segments, MAX_WINDOW),
        outbound_bps=config.outbound_bps,
        inbound_bps=config.inbound_bps,
        keep_alive_s=config.keep_alive_s,
        udp_delivery=config.udp_delivery.value,
        fec_out=fec(config.fec),
        ports=told if len(told) <= MAX_PORT_RANGES else (),
    )


def fec(config: FecConfig | None) -> Fec:
    """With how much redundancy a leg sends."""
    if config is None:
        return FEC_OFF
    return FEC_AUTO if config.auto else Fec(config.data_shards, config.parity_shards)


def kcp_params(config: LegConfig) -> KcpParams:
    """The retransmission behaviour of a leg's conversations."""
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


def where(config: LegConfig) -> str:
    """Addresses and ports of a leg for people: `123.45.67.89:3000-3010`, `*:59000`, `[::1]:59000`."""
    if config.dnstxt:
        return title(config.dnstxt)
    hosts = [f"[{host}]" if ":" in host else host for host in config.addresses] or ["*"]
    ports = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges(config.ports))
    places = [f"{host}:{ports}" for host in hosts] if ports else []
    if config.mappings:
        number = len(config.mappings)
        places.append(f"{number} mapping{'' if number == 1 else 's'}")
    if config.any_target:
        places.append("any target")
    return ",".join(places)


def _mapped(mapping: Mapping) -> Bind:
    target = Target(mapping.target_address, mapping.target_port)
    return Bind(mapping.listen_address, mapping.listen_port, mapping.tcp, mapping.udp, target)
