"""From configuration to the settings of the native dialect's legs. Pure."""

from __future__ import annotations

from kcpg.app import legsettings
from kcpg.app.config.model import Action, FecConfig, LegConfig
from kcpg.core.native.dial.dialer import DialSettings
from kcpg.core.native.handshake.params import FEC_AUTO, FEC_OFF, MAX_PORT_RANGES, MAX_WINDOW, Fec, LinkParams
from kcpg.core.native.link.setup import LinkLimits
from kcpg.core.native.listener import ListenSettings
from kcpg.core.native.users import User

# Conversations of one link: the default of `LinkLimits`, more than the source ports of one peer.
MAX_LINK_FLOWS = 65_535


def dial_settings(config: LegConfig, max_flows: int, identity: bytes = b"") -> DialSettings:
    """How a client or a relay reaches the next node: by any address, as all reach the same peer, and any
    port. `identity`: what this dialer tells of itself (`kcpg.app.identity`); empty: nothing."""
    return DialSettings(
        name=config.section or "tunnel",
        targets=legsettings.destinations(config),
        servers=config.servers,
        params=link_params(config),
        kcp=legsettings.kcp_params(config),
        find_mtu=config.finds_mtu,
        hop_every_ms=config.dport_refresh_s * 1000,
        paths=config.mux_tunnels,
        flow_wait_ms=config.dial_timeout_s * 1000,
        identity=identity,
        # The link stays up without flows, so that the next flow needs no handshake.
        limits=LinkLimits(max_flows=min(max_flows, MAX_LINK_FLOWS), idle_ms=None),
    )


def listen_settings(config: LegConfig, max_flows: int) -> ListenSettings:
    """What a server or a relay offers to dialers, and how many flows each may open."""
    return ListenSettings(
        name=config.section or "tunnel",
        params=link_params(config),
        kcp=legsettings.kcp_params(config),
        find_mtu=config.finds_mtu,
        limits=LinkLimits(max_flows=min(max_flows, MAX_LINK_FLOWS)),
        max_links=config.max_links,
        answer_wrong_clock=config.answer_wrong_clock,
        users=users(config),
        users_bps=config.users_bps,
    )


def users(config: LegConfig) -> tuple[User, ...]:
    """Who may have links with a listener."""
    return tuple(
        User(
            name=one.name,
            public_key=one.public_key,
            expires_s=one.expires_s,
            disabled=one.disabled,
            outbound_bps=one.outbound_bps,
            inbound_bps=one.inbound_bps,
            max_links=one.max_links,
            max_flows=one.max_flows,
        )
        for one in config.users
    )


def link_params(config: LegConfig) -> LinkParams:
    """The link parameters that this end asks for."""
    told = legsettings.ranges(config.ports) if config.action is Action.LISTEN else ()
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
    """How much redundancy a leg sends."""
    if config is None:
        return FEC_OFF
    return FEC_AUTO if config.auto else Fec(config.data_shards, config.parity_shards)
