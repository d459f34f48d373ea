"""From configuration to the settings of the kcptube dialect's legs. Pure."""

from __future__ import annotations

from kcpg.app import legsettings
from kcpg.app.config.dialect import DATAGRAM_MOST_BYTES
from kcpg.app.config.model import LegConfig
from kcpg.core.kcptube.dialer import DialSettings
from kcpg.core.kcptube.listener import ListenSettings
from kcpg.core.kcptube.wire import Format, sealing_bytes

# kcptube's own defaults, where neither `mtu` nor `kcp_mtu` is set.
KCP_MTU = 1418
KCP_MTU_FEC = 1405


def wire_format(config: LegConfig) -> Format:
    """The wire format, which must be the same at both ends."""
    fec = (config.fec.data_shards, config.fec.parity_shards) if config.fec is not None else (0, 0)
    room = sealing_bytes(config.algorithm, all(fec))
    size = min(config.datagram_bytes, DATAGRAM_MOST_BYTES)
    if config.finds_mtu:
        size = room + (KCP_MTU_FEC if all(fec) else KCP_MTU)
    return Format(config.algorithm, config.password, size, fec)


def dial_settings(config: LegConfig) -> DialSettings:
    """How a client or a relay reaches the next node."""
    return DialSettings(
        name=config.section or "tunnel",
        targets=legsettings.destinations(config),
        format=wire_format(config),
        kcp=legsettings.kcp_params(config),
        outbound_bps=config.outbound_bps,
        inbound_bps=config.inbound_bps,
        keep_alive_ms=config.keep_alive_s * 1000,
        hop_every_ms=config.dport_refresh_s * 1000,
        tunnels=config.mux_tunnels,
        flow_wait_ms=config.dial_timeout_s * 1000,
    )


def listen_settings(config: LegConfig, max_flows: int) -> ListenSettings:
    """What a server or a relay offers. A plain link carries one flow, so the limit on flows is that on
    links."""
    return ListenSettings(
        name=config.section or "tunnel",
        format=wire_format(config),
        kcp=legsettings.kcp_params(config),
        outbound_bps=config.outbound_bps,
        inbound_bps=config.inbound_bps,
        keep_alive_ms=config.keep_alive_s * 1000,
        max_links=max_flows,
    )
