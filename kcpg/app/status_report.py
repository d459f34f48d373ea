"""A status report (the JSON of the status socket) as text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kcpg.app.wording import counted, duration, rate, size

_MAX_LINKS = 20  # Links shown per leg; the JSON report has more


def text(name: str, pid: int, report: Mapping[str, Any] | None) -> str:
    """One process: its uptime, its nodes, their links and flows."""
    if report is None:
        return f"{name}: running, pid {pid}, does not answer"
    lines = [f"{name}: running, pid {pid}, up {duration(report['uptime_s'])}, kcpg {report['version']}"]
    reload = report.get("reload", {})
    if reload and not reload["ok"]:
        lines.append(f"  at {time.strftime('%F %T', time.localtime(reload['at']))} {reload['text']}")
    for node in report["nodes"]:
        lines.extend(node_lines(node))
    return "\n".join(lines)


def node_lines(node: Mapping[str, Any]) -> list[str]:
    """One node: a line about its flows, and one per link of its tunnel legs."""
    flows = node.get("flows") or dict.fromkeys(("tcp", "udp", "opened", "refused", "reset"), 0)
    lines = [
        f"  {node['role']} {node['name']} ({node['file']}): {flows['tcp']} TCP and {flows['udp']} UDP flows"
        f" now, {flows['opened']} since start, {flows['refused']} refused, {flows['reset']} reset"
    ]
    if node.get("public_addresses"):
        lines.append(f"    public address {', '.join(node['public_addresses'])} (STUN)")
    lines.extend(f"    {worker_line(row)}" for row in node.get("workers", ()))
    for side in ("ingress", "egress"):
        if side not in node:  # no worker answers
            continue
        lines.extend(_leg_lines(side, node[side]))
    return lines


def _leg_lines(side: str, leg: Mapping[str, Any]) -> list[str]:
    lines = []
    links = leg.get("links", [])
    if leg["kind"] == "tunnel":
        drops = ", ".join(f"{reason} {count}" for reason, count in leg["drops"].items())
        dropped = f", dropped: {drops}" if drops else ""
        memory = leg.get("memory")
        if memory:
            refused = f", {memory['refused']} segments refused" if memory["refused"] else ""
            dropped = (
                f", memory {size(memory['used_bytes'])} of {size(memory['limit_bytes'])}{refused}{dropped}"
            )
        lines.append(
            f"    {side} {leg['where']} {leg['algorithm']}: {counted(leg['link_count'], 'link')}{dropped}"
        )
    lines.extend(f"      {link_line(link)}" for link in links[:_MAX_LINKS])
    if len(links) > _MAX_LINKS:
        lines.append(f"      and {len(links) - _MAX_LINKS} more links")
    return lines


def worker_line(row: Mapping[str, Any]) -> str:
    """One of the processes that run a node."""
    if not row["up"]:
        return f"worker {row['worker']}: down, started {row['starts']} times"
    again = f", started {row['starts']} times" if row["starts"] > 1 else ""
    flows = row["flows"]
    return (
        f"worker {row['worker']}: pid {row['pid']}, up {duration(row['uptime_s'])}{again},"
        f" {flows['tcp']} TCP and {flows['udp']} UDP flows, {row['link_count']} links,"
        f" {row['handed_over']} datagrams handed over"
    )


def link_line(link: Mapping[str, Any]) -> str:
    """One link: peer, state, round-trip time, flows, datagram size, traffic, what congestion
    control believes; if it dials, its hops."""
    rtt = f"rtt {link['srtt_ms']} ms" if link["srtt_ms"] >= 0 else "rtt not measured"
    counters = link["counters"]
    hops = f", {counters['hops']} hops, from port {link['local_port']}" if link["dials"] else ""
    worker = f"worker {link['worker']}: " if "worker" in link else ""
    congestion = link.get("congestion")
    beliefs = f", {congestion_words(congestion)}" if congestion else ""
    return (
        f"{worker}{link['peer']} {link['state']}, {rtt}, {link['flows']} flows,"
        f" datagrams of {link['datagram_bytes']} bytes{'' if link['datagram_bytes_final'] else ' or more'},"
        f" in {size(link['rx_bytes'])}, out {size(link['tx_bytes'])}{hops}{_fec_words(link['fec'])}{beliefs}"
    )


def congestion_words(found: Mapping[str, Any]) -> str:
    """What congestion control believes: `path takes 18.5 Mbit/s (cycle), queue 3 ms over 40 ms`."""
    if not found["delivery_bps"]:
        return f"path not measured yet ({found['state']})"
    queue = (
        f", queue {found['queue_ms']} ms over {found['min_rtt_ms']} ms"
        if found["queue_ms"] is not None
        else ""
    )
    loss = f", loses {found['loss']:.1%}".replace("%", " %") if found["loss"] else ""
    return f"path takes {rate(found['delivery_bps'])} ({found['state']}){queue}{loss}"


def _fec_words(fec: Mapping[str, Any]) -> str:
    """FEC in words; nothing if neither side has used it."""
    if not fec["groups"] and not fec["rebuilt"] and fec["sends"] == "off":
        return ""
    parity = f", sent {size(fec['parity_bytes'])} of parity" if fec["groups"] else ""
    return f", fec {fec['sends']}{parity}, rebuilt {fec['rebuilt']}"
