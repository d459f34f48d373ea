"""A status report (the JSON of the status socket, docs/status.md) as text of at most 100 columns."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kcpg.app.wording import age, brief, counted, duration, rate, share, size

WIDTH = 100

_MAX_LINKS = 20  # Links shown per leg; the JSON report has more

# Columns of a link: heading and width. The first is left-justified, the others right.
_COLUMNS = (
    ("peer", 25), ("state", 8), ("heard", 7), ("rtt", 7), ("in b/s", 8), ("out b/s", 8), ("in B", 7),
    ("out B", 7), ("loss", 6), ("resent", 7), ("flows", 6),
)  # fmt: skip

_MIDDLE = "…"

Report = Mapping[str, Any]


def text(name: str, pid: int, report: Report | None, before: Report | None = None) -> str:
    """One process: its uptime, its nodes, their links and flows. `before`: an earlier report, for rates."""
    if report is None:
        return _fit(f"{name}: running, pid {pid}, does not answer")
    head = f"{name}: running, pid {pid}, up {duration(report['uptime_s'])}, kcpg {report['version']}"
    lines = [_fit(f"{head}, {report.get('engine', 'unknown')} engine")]
    reload = report.get("reload", {})
    if reload and not reload["ok"]:
        at = time.strftime("%F %T", time.localtime(reload["at"]))
        lines += _wrapped("  ! ", f"the configuration was refused at {at}: {reload['text']}")
    elapsed_s = report["at_s"] - before["at_s"] if before is not None and "at_s" in before else 0.0
    earlier = {node["file"]: node for node in before["nodes"]} if before is not None else {}
    for node in report["nodes"]:
        lines.extend(node_lines(node, earlier.get(node["file"]), elapsed_s))
    return "\n".join(lines)


def node_lines(node: Report, before: Report | None = None, elapsed_s: float = 0.0) -> list[str]:
    """One node: what it carries, what is wrong, and a row for each link. `before`: so long ago."""
    flows = node.get("flows") or dict.fromkeys(("tcp", "udp", "opened", "refused", "reset"), 0)
    lines = [
        "  " + _fit(f"{node['role']} {node['name']}, {node['file']}", WIDTH - 2),
        f"    flows: {flows['tcp']} TCP, {flows['udp']} UDP now; {flows['opened']} since start,"
        f" {flows['refused']} refused, {flows['reset']} reset",
    ]
    if node.get("public_addresses"):
        lines += _wrapped("    ", f"public address {', '.join(node['public_addresses'])} (STUN)")
    lines += _wrapped_all(worker_line(row) for row in node.get("workers", ()))
    for side in ("ingress", "egress"):
        if side in node:  # else no worker answers
            leg_before = before.get(side) if before is not None else None
            lines.extend(_leg_lines(node[side], leg_before, elapsed_s))
    for trouble in node.get("troubles", ()):
        lines += _wrapped("    ! ", trouble_line(trouble))
    return lines


def _memory(memory: Report | None) -> str:
    """How much of the memory for what flows hold is in use, and whether any was refused."""
    if not memory:
        return ""
    refused = f", {memory['refused']} segments refused" if memory["refused"] else ""
    return f", memory {size(memory['used_bytes'])} of {size(memory['limit_bytes'])}{refused}"


def _leg_lines(leg: Report, before: Report | None, elapsed_s: float) -> list[str]:
    verb = "listens on" if leg["action"] == "listen" else "dials"
    if leg["kind"] != "tunnel":
        return _wrapped("    ", f"{verb} {leg['where'] or 'nothing'}")
    drops = ", ".join(f"{reason} {count}" for reason, count in sorted(leg["drops"].items()) if count)
    dropped = f"; dropped: {drops}" if drops else ""
    what = f"{verb} {leg['where']}, {leg['algorithm']}: {counted(leg['link_count'], 'link')}"
    what += f"{_memory(leg.get('memory'))}{dropped}"
    lines = _wrapped("    ", what)
    for failure in failures(leg):
        lines += _wrapped("    ! ", failure)
    links = leg.get("links", [])
    if not links:
        return lines
    earlier = {_key(link): link for link in before.get("links", ())} if before is not None else {}
    headings = [heading for heading, _ in _COLUMNS]
    lines.append("    " + _row(headings))
    for link in links[:_MAX_LINKS]:
        lines += link_lines(link, earlier.get(_key(link)), elapsed_s)
    if len(links) > _MAX_LINKS:
        lines.append(f"    and {len(links) - _MAX_LINKS} more links")
    return lines


def failures(leg: Report) -> Iterator[str]:
    """What is wrong with a tunnel leg, in words."""
    found = leg.get("unanswered")
    if found:
        handshakes = counted(found["handshakes"], "handshake")
        yield f"{handshakes} sent, none answered for {duration(found['for_s'])}"
    strangers = leg["counters"].get("strangers", 0)
    if strangers and leg["action"] == "listen":
        yield f"{counted(strangers, 'datagram')} since start under another password, or for a closed link"


def trouble_line(trouble: Report) -> str:
    """Something that went wrong lately."""
    times = f", {trouble['count']} times" if trouble["count"] > 1 else ""
    peer = f"{trouble['peer']}: " if trouble["peer"] else ""
    return f"{age(trouble['ago_s'])} ago{times}: {peer}{trouble['text']}"


def worker_line(row: Report) -> str:
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


def link_lines(link: Report, before: Report | None = None, elapsed_s: float = 0.0) -> list[str]:
    """One link: a row of the table, and what else is known of its path."""
    rates = ["-", "-"]
    if before is not None and elapsed_s > 0:
        rates = [brief((link[way] - before[way]) * 8 / elapsed_s) for way in ("rx_bytes", "tx_bytes")]
    resent = sum(link.get(f"segments_resent_{why}", 0) for why in ("fast", "rto", "tail"))
    sent = link.get("segments_sent", 0)
    cells = [
        link["peer"] or "-",
        link["state"],
        age(link["heard_s"]),
        _rtt(link["srtt_ms"]),
        *rates,
        brief(link["rx_bytes"]),
        brief(link["tx_bytes"]),
        share(max(link["fec"]["loss"], (link.get("congestion") or {}).get("loss", 0.0))),
        share(resent / (sent + resent)) if sent else "-",
        str(link["flows"]),
    ]
    lines = []
    if len(cells[0]) >= _COLUMNS[0][1]:  # IPv6
        lines.append(f"    {cells[0]}")
        cells[0] = ""
    return [*lines, "    " + _row(cells), *_wrapped("      ", _path(link))]


def _rtt(ms: int) -> str:
    if ms < 0:
        return "-"
    return f"{ms}ms" if ms < 10_000 else age(ms / 1000)


def _path(link: Report) -> str:
    """Size, ports, FEC and rate in words."""
    words = [f"datagrams of {link['datagram_bytes']} B{'' if link['datagram_bytes_final'] else ' or more'}"]
    if "worker" in link:
        words.insert(0, f"worker {link['worker']}")
    if user := link.get("user"):
        words.insert(0, f"user {user}")
    if link["dials"]:
        words.append(f"from port {link['local_port']}, {counted(link['counters']['hops'], 'hop')}")
    if congestion := link.get("congestion"):
        words.append(congestion_words(congestion))
    elif link.get("rate_bps"):
        words.append(f"paced at {brief(link['rate_bps'])}b/s")
    return ", ".join(words) + _fec_words(link["fec"])


def congestion_words(found: Report) -> str:
    """What congestion control believes: `path takes 18.5 Mbit/s (cycle), queue 3 ms over 40 ms`."""
    if not found["delivery_bps"]:
        return f"path not measured yet ({found['state']})"
    queue = (
        f", queue {found['queue_ms']} ms over {found['min_rtt_ms']} ms"
        if found["queue_ms"] is not None
        else ""
    )
    return f"path takes {rate(found['delivery_bps'])} ({found['state']}){queue}"


def _fec_words(fec: Report) -> str:
    """FEC in words; nothing if neither side has used it."""
    if not fec["groups"] and not fec["rebuilt"] and fec["sends"] == "off":
        return ""
    parity = f", sent {size(fec['parity_bytes'])} of parity" if fec["groups"] else ""
    return f", fec {fec['sends']}{parity}, rebuilt {fec['rebuilt']}"


def _key(link: Report) -> tuple[object, ...]:
    """The same link in two reports, unless it moved meanwhile."""
    return link.get("worker"), link["peer"], link["local_port"], link.get("carries")


def _row(cells: Iterable[str]) -> str:
    padded = [
        cell.rjust(width) if index else cell.ljust(width)
        for index, (cell, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=True))
    ]
    return "".join(padded).rstrip()


def _wrapped(indent: str, line: str) -> list[str]:
    """Lines of WIDTH columns at most; a longer word is cut in its middle."""
    words = " ".join(_fit(word, WIDTH - len(indent) - 2) for word in line.split(" "))
    more = " " * (len(indent) + 2)
    return textwrap.wrap(words, WIDTH, initial_indent=indent, subsequent_indent=more) or [indent]


def _wrapped_all(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in _wrapped("    ", line)]


def _fit(line: str, width: int = WIDTH) -> str:
    """At most so many columns: what is too long loses its middle."""
    if len(line) <= width:
        return line
    half = (width - len(_MIDDLE)) // 2
    return line[: width - len(_MIDDLE) - half] + _MIDDLE + line[-half:]
