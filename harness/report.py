"""Shows a chain: a drawing with addresses, and the nodes' reports on their links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from harness.chain import Chain, address_text, port_list


def picture(chain: Chain) -> str:
    """The chain as a column: each node with its process and its link to the next."""
    lines = ["  application", f"    │  TCP and UDP to {address_text(chain.entry)}", "    ▼"]
    for number, node in enumerate(chain.nodes):
        lines.append(f"  {node.role:<12} process {node.program.pid}")
        if number < len(chain.hops):
            hop = chain.hops[number]
            where = f"UDP port{'' if len(hop.ports) == 1 else 's'} {port_list(hop.ports)}"
            preset = hop.options.get("kcp", "default")
            lines.append(f"    ║  kcpg/1 to {where}, {hop.algorithm}, kcp={preset}, its own password")
        else:
            lines.append(f"    │  TCP and UDP to {address_text(chain.target)}")
        lines.append("    ▼")
    lines.append("  echo service\n")
    return "\n".join(lines)


def hop_table(chain: Chain) -> str:
    """Each dialling node's report on its link: cipher, datagrams, segments resent, round trip."""
    rows = [("hop", "cipher", "datagrams sent", "received", "segments", "sent again", "round trip")]
    for node, following in pairwise(chain.nodes):
        status = chain.status(node)
        for leg, link in dialled_links(status):
            rows.append((f"{node.role} → {following.role}", str(leg.get("algorithm", "?")), *_facts(link)))
    if len(rows) == 1:
        return "  (kcpg status gave no report)"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def dialled_links(status: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The dialling tunnel legs in a status report, each with each of its links."""
    for node in status.get("nodes", ()):
        leg = node.get("egress", {})
        if leg.get("kind") == "tunnel":
            for link in leg.get("links", ()):
                yield leg, link


def _facts(link: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    sent = link.get("segments_sent")
    again = sum(link.get(f"segments_resent_{why}") or 0 for why in ("fast", "rto", "tail"))
    rtt_ms = link.get("srtt_ms", -1)
    return (
        _number(link.get("tx_datagrams")),
        _number(link.get("rx_datagrams")),
        _number(sent),
        f"{again:,} ({again / sent:.2%})" if sent else _number(None),
        f"{rtt_ms} ms" if isinstance(rtt_ms, int | float) and rtt_ms >= 0 else "not measured",
    )


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"
