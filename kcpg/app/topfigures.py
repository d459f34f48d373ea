"""The rows of `kcpg top`, made of status reports (docs/status.md): what is sorted, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kcpg.app.wording import age, brief, share

Report = Mapping[str, Any]
Value = float | str

LINK_COLUMNS = (
    "node", "leg", "peer", "state", "heard", "rtt", "in b/s", "out b/s", "loss", "resent", "flows"
)  # fmt: skip
FLOW_COLUMNS = ("node", "kind", "source", "target", "up/s", "down/s", "up", "down", "resent")


class Row(NamedTuple):
    """One line of a table: what sorts it, and what is shown, by column."""

    values: tuple[Value, ...]
    cells: tuple[str, ...]


class Figures(NamedTuple):
    """Everything of one moment."""

    links: list[Row]
    flows: list[Row]
    in_bps: float  # Of all tunnels together
    out_bps: float


def figures(reports: Iterable[Report], before: Iterable[Report]) -> Figures:
    """What the processes do now; rates are since the reports `before`."""
    earlier = {report["pid"]: report for report in before}
    links: list[Row] = []
    flows: list[Row] = []
    total = [0.0, 0.0]
    for report in reports:
        old = earlier.get(report["pid"])
        elapsed_s = report["at_s"] - old["at_s"] if old is not None else 0.0
        olds = {node["file"]: node for node in old["nodes"]} if old is not None else {}
        for node in report["nodes"]:
            old_node = olds.get(node["file"], {})
            for side in ("ingress", "egress"):
                for row in _links(node, side, old_node.get(side, {}), elapsed_s):
                    links.append(row)
                    total[0] += float(row.values[6])
                    total[1] += float(row.values[7])
            flows += _flows(node, old_node, elapsed_s)
    return Figures(links, flows, total[0], total[1])


def ordered(rows: Iterable[Row], column: int, falling: bool) -> list[Row]:
    """Sorted by one column; words and numbers of one column never mix."""
    return sorted(rows, key=lambda row: row.values[column], reverse=falling)


def _links(node: Report, side: str, before: Report, elapsed_s: float) -> Iterator[Row]:
    olds = {_link_key(link): link for link in before.get("links", ())}
    for link in node.get(side, {}).get("links", ()):
        old = olds.get(_link_key(link))
        in_bps, out_bps = (_rate(link, old, name, elapsed_s) * 8 for name in ("rx_bytes", "tx_bytes"))
        resent = sum(link.get(f"segments_resent_{why}", 0) for why in ("fast", "rto", "tail"))
        part = resent / (link["segments_sent"] + resent) if link["segments_sent"] else 0.0
        loss = max(link["fec"]["loss"], (link.get("congestion") or {}).get("loss", 0.0))
        rtt_ms, heard_s, flows = link["srtt_ms"], link["heard_s"], link["flows"]
        words = (node["name"], side, link["peer"], link["state"])
        yield Row(
            (*words, heard_s, rtt_ms, in_bps, out_bps, loss, part, flows),
            (*words, age(heard_s), f"{rtt_ms}ms" if rtt_ms >= 0 else "-", brief(in_bps), brief(out_bps),
             share(loss), share(part), str(flows)),
        )  # fmt: skip


def _flows(node: Report, before: Report, elapsed_s: float) -> Iterator[Row]:
    olds = {_flow_key(flow): flow for flow in before.get("flow_list", ())}
    for flow in node.get("flow_list", ()):
        old = olds.get(_flow_key(flow))
        rates = [_rate(flow, old, name, elapsed_s) for name in ("up", "down")]
        words = (node["name"], flow["kind"], flow["source"], flow["target"])
        numbers = (*rates, flow["up"], flow["down"], flow["segments_resent"])
        yield Row((*words, *numbers), (*words, *(brief(number) for number in numbers)))


def _rate(now: Report, old: Report | None, name: str, elapsed_s: float) -> float:
    return max(now[name] - old[name], 0) / elapsed_s if old is not None and elapsed_s > 0 else 0.0


def _link_key(link: Report) -> tuple[object, ...]:
    return link.get("worker"), link["peer"], link["local_port"], link.get("carries")


def _flow_key(flow: Report) -> tuple[object, ...]:
    return flow.get("worker"), flow["kind"], flow["source"], flow["target"]
