"""From configuration to the settings of the kcptun dialect's legs. Pure."""

from __future__ import annotations

from kcpg.app import legsettings
from kcpg.app.config.dialect import KCPTUN_KEEP_ALIVE_S, KCPTUN_MOST_BYTES
from kcpg.app.config.model import LegConfig
from kcpg.core.kcptun.cipher import PASS_BYTES, Cipher
from kcpg.core.kcptun.dialer import DialSettings
from kcpg.core.kcptun.framestream import StreamSettings
from kcpg.core.kcptun.listener import MAX_LINKS, ListenSettings
from kcpg.core.kcptun.wire import Format
from kcpg.errors import StartError

DATAGRAM_BYTES = 1350  # kcptun's default, where neither `mtu` nor `kcp_mtu` is set
KEEP_ALIVE_S = 10  # The same of `keep_alive`


def wire_format(config: LegConfig) -> Format:
    """The wire format: what must be the same at both ends, and the size of this end's datagrams. Raises
    StartError for a cipher that this machine's libraries lack."""
    try:
        Cipher(config.algorithm.lower(), bytes(PASS_BYTES))
    except ValueError as error:
        raise StartError(str(error), "use aes at both ends") from error
    fec = (config.fec.data_shards, config.fec.parity_shards) if config.fec is not None else (0, 0)
    size = DATAGRAM_BYTES if config.finds_mtu else min(config.datagram_bytes, KCPTUN_MOST_BYTES)
    return Format(config.algorithm.lower(), config.password, size, fec)


def streams(config: LegConfig) -> StreamSettings:
    """How the streams of a link work."""
    keep_alive_s = min(config.keep_alive_s or KEEP_ALIVE_S, KCPTUN_KEEP_ALIVE_S)
    return StreamSettings(
        version=config.smuxver,
        compresses=not config.nocomp,
        keep_alive_ms=keep_alive_s * 1000,
        link_bytes=config.smuxbuf_bytes,
        stream_bytes=config.streambuf_bytes,
        frame_bytes=config.framesize_bytes,
    )


def dial_settings(config: LegConfig) -> DialSettings:
    """How a client or a relay reaches the next node."""
    return DialSettings(
        name=config.section or "tunnel",
        targets=legsettings.destinations(config),
        format=wire_format(config),
        kcp=legsettings.kcp_params(config),
        streams=streams(config),
        outbound_bps=config.outbound_bps,
        tunnels=config.mux_tunnels,
        expire_ms=config.dport_refresh_s * 1000,
        scavenge_ms=config.scavengettl_s * 1000,
        flow_wait_ms=config.dial_timeout_s * 1000,
    )


def listen_settings(config: LegConfig, max_flows: int) -> ListenSettings:
    """What a server or a relay offers."""
    return ListenSettings(
        name=config.section or "tunnel",
        format=wire_format(config),
        kcp=legsettings.kcp_params(config),
        streams=streams(config),
        outbound_bps=config.outbound_bps,
        max_links=min(max_flows, MAX_LINKS),
    )
