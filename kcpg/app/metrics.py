"""A node's counters as plain dictionaries: node → leg → link → flow. Made on request, never kept.

A counter only grows while its link or node lives. Drops have the names that the core gives them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from kcpg.app import legsettings
from kcpg.app.config.model import Dialect, LegConfig, LegKind, NodeConfig
from kcpg.core.flow import Kind
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.listener import TunnelListener
from kcpg.net.addr import text as address_text
from kcpg.net.clock import now_ms

if TYPE_CHECKING:
    from kcpg.core.kcptube.link import Link as TubeLink
    from kcpg.core.kcptun.link import Link as TunLink
    from kcpg.core.native.link.link import Link
    from kcpg.core.node import Node
    from kcpg.core.splice import Splice
    from kcpg.net.driver import Driver
    from kcpg.net.tunnelsockets import TunnelSockets

# Most entries of one report: a request for the state of a busy node must not stop its traffic. Totals are
# complete.
MAX_LINKS = 1000
MAX_FLOWS = 1000
MAX_USERS = 1000

Snapshot = dict[str, Any]

_TRAFFIC = ("rx_bytes", "tx_bytes", "rx_datagrams", "tx_datagrams")

_RESENT = ("fast", "rto", "tail")

TOTALS = (
    *_TRAFFIC, "payload_bytes", "segments_sent", "segments_resent", "parity_bytes", "rebuilt", "lost"
)  # fmt: skip
"""What a leg adds up over all its links, those that are over as well."""


class Measured(Protocol):
    """What a snapshot needs of a running node; `node` and `driver` are None until it has started."""

    config: NodeConfig
    started_s: float
    ports: dict[Any, TunnelSockets]
    node: Node | None
    driver: Driver | None

    @property
    def public_addresses(self) -> list[bytes]: ...

    @property
    def troubles(self) -> list[dict[str, Any]]: ...


def snapshot(running: Measured) -> Snapshot:
    """One node and everything below it."""
    config, node, driver = running.config, running.node, running.driver
    found: Snapshot = {
        "name": config.name,
        "role": config.role.value,
        "file": str(config.file),
        "uptime_s": round(time.monotonic() - running.started_s, 3),
    }
    if node is None or driver is None:
        return found
    splices = list(node.splices)
    tcp = sum(splice.kind is Kind.TCP for splice in splices)
    found["flows"] = {"tcp": tcp, "udp": len(splices) - tcp, **dataclasses.asdict(node.counters)}
    found["socket_errors"] = driver.errors()
    found["public_addresses"] = [address_text(address) for address in running.public_addresses]
    found["troubles"] = running.troubles
    found["ingress"] = leg_snapshot(config.ingress, node.ingress, running.ports.get(node.ingress))
    found["egress"] = leg_snapshot(config.egress, node.egress, running.ports.get(node.egress))
    found["flow_list"] = [splice_snapshot(splice) for splice in splices[:MAX_FLOWS]]
    return found


def leg_snapshot(config: LegConfig, leg: Any, ports: TunnelSockets | None) -> Snapshot:
    """One leg: its addresses and, for a tunnel, its links and its drops."""
    found: Snapshot = {
        "kind": config.kind.value,
        "action": config.action.value,
        "section": config.section,
        "where": legsettings.where(config),
    }
    if config.kind is LegKind.LOCAL:
        found["counters"] = dict(leg.counters)
    if config.kind is LegKind.TUNNEL:
        shot = _SHOTS[config.dialect]
        count = link_totals if config.dialect is Dialect.NATIVE else foreign_totals
        links = list(leg.links)
        found["algorithm"] = config.algorithm
        found["link_count"] = len(links)
        found["links"] = [shot(link, ports) for link in links[:MAX_LINKS]]
        if isinstance(leg, TunnelListener):
            for row, link in zip(found["links"], links, strict=False):
                row["user"] = leg.user_of(link)
            found["users"] = user_rows(leg)
        totals = dict.fromkeys(TOTALS, 0) | getattr(leg, "ended", {})
        for link in links:
            for name, number in count(link).items():
                totals[name] += number
        found["totals"] = totals
        found["counters"] = dataclasses.asdict(leg.counters)
        if not (config.is_kcptube or config.is_kcptun):
            found["memory"] = leg.wire.memory()
        found["unanswered"] = unanswered(leg)
        found["drops"] = {**leg.wire.drops, **getattr(leg, "handshake_drops", {})}
    return found


def user_rows(leg: TunnelListener) -> list[Snapshot]:
    """The users who have links now, those with most traffic first; all that they have carried by these."""
    rows: dict[str, Snapshot] = {}
    for link in leg.links if leg.users is not None else ():
        row = rows.setdefault(
            leg.user_of(link),
            {"name": leg.user_of(link), "links": 0, "flows": 0, "rx_bytes": 0, "tx_bytes": 0},
        )
        row["links"] += 1
        row["flows"] += len(link.flows.flows)
        row["rx_bytes"] += link.link_wire.rx_bytes
        row["tx_bytes"] += link.link_wire.tx_bytes
    most = sorted(rows.values(), key=lambda row: -(row["rx_bytes"] + row["tx_bytes"]))
    return most[:MAX_USERS]


def link_totals(link: Link) -> dict[str, int]:
    """What only grows while a link lives, by the names of TOTALS."""
    link_wire, fec = link.link_wire, link.link_wire.fec
    segments = link_wire.segment_counts()
    return {
        **{name: getattr(link_wire, name) for name in _TRAFFIC},
        "payload_bytes": segments["bytes_sent"],
        "segments_sent": segments["segments_sent"],
        "segments_resent": sum(segments[f"segments_resent_{why}"] for why in _RESENT),
        "parity_bytes": fec.parity_bytes if fec is not None else 0,
        "rebuilt": fec.rebuilt if fec is not None else 0,
        "lost": fec.lost if fec is not None else 0,
    }


def foreign_totals(link: TubeLink | TunLink) -> dict[str, int]:
    """The same for a link of another dialect."""
    conv, kcp = link.conv, link.conv.kcp
    return {
        **{name: getattr(conv, name) for name in _TRAFFIC},
        "payload_bytes": kcp.bytes_sent,
        "segments_sent": kcp.segments_sent,
        "segments_resent": sum(getattr(kcp, f"segments_resent_{why}") for why in _RESENT),
        "parity_bytes": conv.sender.parity_bytes if conv.sender is not None else 0,
        "rebuilt": conv.receiver.rebuilt if conv.receiver is not None else 0,
        "lost": conv.receiver.untrusted if conv.receiver is not None else 0,
    }


def unanswered(leg: Any) -> Snapshot | None:
    """The handshakes that a dialing leg has sent in vain since it heard the peer last; None if it has not."""
    found = getattr(leg, "unanswered", None)
    if found is None:
        return None
    handshakes, since_ms = found
    return {"handshakes": handshakes, "for_s": round((now_ms() - since_ms) / 1000, 1)}


def link_snapshot(link: Link, ports: TunnelSockets | None) -> Snapshot:
    """One link: its peer, the round-trip time, and its traffic since it came up."""
    link_wire = link.link_wire
    sock = ports.get(link_wire.path[0]) if ports is not None and link_wire.path is not None else None
    found: Snapshot = {
        "peer": address_text(link.peer) if link.peer else "",
        "local_port": sock.port if sock is not None else 0,
        "dials": link.dials,
        "state": link.state.value,
        "up_s": round((now_ms() - link.since_ms) / 1000, 1),
        "heard_s": round((now_ms() - link.liveness.heard_ms) / 1000, 3),
        "srtt_ms": link.rtt_ms,
        "flows": len(link.flows.flows),
        "rx_bytes": link_wire.rx_bytes,
        "tx_bytes": link_wire.tx_bytes,
        "rx_datagrams": link_wire.rx_datagrams,
        "tx_datagrams": link_wire.tx_datagrams,
        "datagram_bytes": link_wire.datagram_bytes,
        "datagram_bytes_final": not link.mtu.searching,
        "rate_bps": link_wire.rate_bps,
    }
    found["congestion"] = congestion_snapshot(link)
    found["fec"] = fec_snapshot(link)
    found["counters"] = dataclasses.asdict(link.counters)
    found |= link_wire.segment_counts()
    payload_bytes = found["payload_bytes"] = found.pop("bytes_sent")
    found["wire_per_payload"] = round(link_wire.tx_bytes / payload_bytes, 3) if payload_bytes else None
    return found


def tube_snapshot(link: TubeLink, ports: TunnelSockets | None) -> Snapshot:
    """The same for a link in kcptube's format."""
    return {"carries": link.carries.name.lower()} | foreign_snapshot(link, ports)


def tun_snapshot(link: TunLink, ports: TunnelSockets | None) -> Snapshot:
    """The same for a link in kcptun's format. `peer_fec`: what its shards were found to be."""
    receiver = link.conv.receiver
    shape = receiver.shape if receiver is not None else None
    return foreign_snapshot(link, ports) | {
        "smux": link.version,
        "compresses": link.frames.compresses,
        "peer_fec": f"{shape.data}:{shape.parity}" if shape is not None and shape.data else "off",
    }


def foreign_snapshot(link: TubeLink | TunLink, ports: TunnelSockets | None) -> Snapshot:
    """What links in other programs' formats have in common."""
    conv = link.conv
    kcp, sender, receiver = conv.kcp, conv.sender, conv.receiver
    sends = f"{sender.data}:{sender.parity}" if sender is not None and sender.data else "off"
    sock = ports.get(conv.path[0]) if ports is not None and conv.path is not None else None
    return {
        "peer": address_text(link.peer) if link.peer else "",
        "local_port": sock.port if sock is not None else 0,
        "dials": link.dials,
        "state": link.state.value,
        "heard_s": round((now_ms() - conv.heard_ms) / 1000, 3),
        "srtt_ms": link.rtt_ms,
        "flows": link.flow_count,
        "rx_bytes": conv.rx_bytes,
        "tx_bytes": conv.tx_bytes,
        "rx_datagrams": conv.rx_datagrams,
        "tx_datagrams": conv.tx_datagrams,
        "datagram_bytes": conv.wire.format.datagram_bytes,
        "datagram_bytes_final": True,
        "rate_bps": 0,
        "congestion": None,
        "fec": {
            "sends": sends,
            "loss": 0.0,
            "groups": sender.groups if sender is not None else 0,
            "parity_bytes": sender.parity_bytes if sender is not None else 0,
            "rebuilt": receiver.rebuilt if receiver is not None else 0,
            "lost": receiver.untrusted if receiver is not None else 0,
        },
        "segments_sent": kcp.segments_sent,
        "segments_resent_fast": kcp.segments_resent_fast,
        "segments_resent_rto": kcp.segments_resent_rto,
        "segments_resent_tail": kcp.segments_resent_tail,
        "resends_spurious": kcp.resends_spurious,
        "segments_received": kcp.segments_received,
        "duplicates_received": kcp.duplicates_received,
        "payload_bytes": kcp.bytes_sent,
        "wire_per_payload": round(conv.tx_bytes / kcp.bytes_sent, 3) if kcp.bytes_sent else None,
        "counters": dataclasses.asdict(link.counters),
    }


def congestion_snapshot(link: Link) -> Snapshot | None:
    """What the link's congestion control believes of its path; None: it has none (`kcp` is not auto).

    `delivery_bps`: the path's rate, 0 not yet known; `queue_ms`: what the round trip is longer than the
    shortest; `loss`: the path's own share (0 to 1); `pace_bps`: what it sends by, 0 not paced; the bytes that
    are under way and the most that may be.
    """
    flight = link.link_wire.flight
    if flight is None:
        return None
    control, rtt_ms = flight.control, link.rtt_ms
    known = rtt_ms >= 0 and control.min_rtt_ms >= 0
    return {
        "state": control.phase.value,
        "delivery_bps": control.delivery_bps,
        "min_rtt_ms": control.min_rtt_ms,
        "queue_ms": max(rtt_ms - control.min_rtt_ms, 0) if known else None,
        "loss": round(control.loss, 4),
        "pace_bps": control.rate_bps,
        "flight_bytes": flight.bytes,
        "flight_limit_bytes": flight.limit_bytes,
    }


def fec_snapshot(link: Link) -> Snapshot:
    """Redundancy: what this end sends now (`20:4`, or by group size; `off`), and its results so far.

    Sent: `groups` and `parity_bytes`; `loss` as the peer reports it (fec=auto). Received: frames `rebuilt`,
    and those `lost` in spite of parity.
    """
    fec = link.link_wire.fec
    counted = (fec.groups, fec.parity_bytes, fec.rebuilt, fec.lost) if fec is not None else (0, 0, 0, 0)
    groups, parity_bytes, rebuilt, lost = counted
    return {
        "sends": str(link.fec_control.choice.plan),
        "loss": round(link.fec_control.loss, 4),
        "groups": groups,
        "parity_bytes": parity_bytes,
        "rebuilt": rebuilt,
        "lost": lost,
    }


_SHOTS: dict[Dialect, Callable[[Any, TunnelSockets | None], Snapshot]] = {
    Dialect.NATIVE: link_snapshot,
    Dialect.KCPTUBE: tube_snapshot,
    Dialect.KCPTUN: tun_snapshot,
}


def splice_snapshot(splice: Splice) -> Snapshot:
    """One flow: its source, its target and its traffic each way (bytes of TCP, packets of UDP).

    Its payload and its segments, new and resent, are those that this node sends into tunnels.
    """
    up, down = splice.moved
    convs = [flow.conv for flow in splice.flows if isinstance(flow, ConvFlow) and flow.conv is not None]
    return {
        "kind": splice.kind.name.lower(),
        "user": splice.open.user,
        "source": splice.open.source,
        "target": str(splice.open.target) if splice.open.target else "",
        "up": up,
        "down": down,
        "dropped": sum(splice.dropped),
        "payload_bytes": sum(conv.bytes_sent for conv in convs),
        "segments_sent": sum(conv.segments_sent for conv in convs),
        "segments_resent": sum(
            conv.segments_resent_fast + conv.segments_resent_rto + conv.segments_resent_tail for conv in convs
        ),
    }
