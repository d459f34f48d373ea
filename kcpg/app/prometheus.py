"""A process's counters in Prometheus's terms: what `metrics_listen` serves.

Labels are node, leg, protocol, and names that the program itself gives: their number does not grow with
peers, links or flows. Of users with links the 1,000 with most traffic have labels of their own. With workers,
the figures are those of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

Report = Mapping[str, Any]

_NODE = ["node"]
_LEG = ["node", "leg"]

# Totals of a leg: metric, help, a further label or none, and its values by the fields of `totals`.
_TOTALS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("kcpg_datagrams", "Of tunnels.", "direction", {"rx_datagrams": "in", "tx_datagrams": "out"}),
    ("kcpg_datagram_bytes", "UDP payload of tunnels.", "direction", {"rx_bytes": "in", "tx_bytes": "out"}),
    ("kcpg_payload_bytes", "Users' bytes sent into tunnels.", "", {"payload_bytes": ""}),
    ("kcpg_segments", "Segments sent for the first time.", "", {"segments_sent": ""}),
    ("kcpg_segments_resent", "Segments sent again.", "", {"segments_resent": ""}),
    ("kcpg_fec_parity_bytes", "Redundancy sent.", "", {"parity_bytes": ""}),
    ("kcpg_fec_rebuilt", "Frames rebuilt from redundancy.", "", {"rebuilt": ""}),
    ("kcpg_fec_lost", "Frames lost in spite of redundancy.", "", {"lost": ""}),
)

_FLOW_ENDS = ("finished", "reset", "refused")

_SIDES = ("ingress", "egress")


def application(report: Callable[[], Report]) -> Callable[..., Iterable[bytes]]:
    """The WSGI application that answers a scrape with what `report` says then (docs/status.md)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ReportCollector(report))
    ProcessCollector(registry=registry)
    app: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)
    return app


class ReportCollector(Collector):
    """Turns a status report into metrics, at each scrape."""

    def __init__(self, report: Callable[[], Report]) -> None:
        self._report = report

    def describe(self) -> Iterable[Metric]:
        """Nothing: which metrics there are depends on the nodes."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        report = self._report()
        nodes = report["nodes"]
        build = {"version": report["version"], "engine": report["engine"]}
        yield InfoMetricFamily("kcpg_build", "Version and engine.", value=build)
        yield GaugeMetricFamily("kcpg_uptime_seconds", "Since the start.", value=report["uptime_s"])
        reload = report["reload"]
        yield CounterMetricFamily(
            "kcpg_reloads", "Times the configuration was reread.", value=reload["count"]
        )
        text = "Whether the configuration on disk was taken when it was read last."
        yield GaugeMetricFamily("kcpg_config_last_reload_successful", text, value=reload["ok"])
        yield from _flows(nodes)
        yield from _workers(nodes)
        legs = [(node["name"], side, node[side]) for node in nodes for side in _SIDES if side in node]
        tunnels = [(name, side, leg) for name, side, leg in legs if leg["kind"] == "tunnel"]
        yield from _links(tunnels)
        yield from _users(tunnels)
        yield from _totals(tunnels)
        yield _named("kcpg_drops", "Datagrams discarded.", "reason", tunnels, "drops")
        yield _named("kcpg_leg_events", "Events of a leg, by name.", "event", legs, "counters")


Legs = list[tuple[str, str, Report]]


def _flows(nodes: Iterable[Report]) -> Iterator[Metric]:
    now = GaugeMetricFamily("kcpg_flows", "Flows now.", labels=["node", "protocol"])
    opened = CounterMetricFamily("kcpg_flows_opened", "Flows since start.", labels=_NODE)
    ended = CounterMetricFamily("kcpg_flows_ended", "Flows that are over.", labels=["node", "result"])
    dropped = CounterMetricFamily("kcpg_packets_dropped", "UDP packets a full sink refused.", labels=_NODE)
    errors = CounterMetricFamily("kcpg_socket_errors", "What the kernel refused.", labels=["node", "error"])
    for node in nodes:
        name, flows = node["name"], node.get("flows")
        if not flows:
            continue
        for protocol in ("tcp", "udp"):
            now.add_metric([name, protocol], flows[protocol])
        opened.add_metric([name], flows["opened"])
        for result in _FLOW_ENDS:
            ended.add_metric([name, result], flows[result])
        dropped.add_metric([name], flows["packets_dropped"])
        for error, count in node["socket_errors"].items():
            errors.add_metric([name, error], count)
    yield from (now, opened, ended, dropped, errors)


def _workers(nodes: Iterable[Report]) -> Iterator[Metric]:
    up = GaugeMetricFamily("kcpg_workers_up", "Worker processes that run.", labels=_NODE)
    starts = CounterMetricFamily("kcpg_worker_starts", "Times a worker was started.", labels=_NODE)
    for node in nodes:
        if rows := node.get("workers"):
            up.add_metric([node["name"]], sum(row["up"] for row in rows))
            starts.add_metric([node["name"]], sum(row["starts"] for row in rows))
    yield from (up, starts)


def _links(tunnels: Legs) -> Iterator[Metric]:
    count = GaugeMetricFamily("kcpg_links", "Links now.", labels=_LEG)
    silence = "Time since a handshake was first left unanswered; 0 if all is well."
    unanswered = GaugeMetricFamily("kcpg_handshake_unanswered_seconds", silence, labels=_LEG)
    rtt_text = "Round-trip time over the links of a leg."
    rtt = GaugeMetricFamily("kcpg_link_round_trip_seconds", rtt_text, labels=[*_LEG, "link"])
    loss = GaugeMetricFamily("kcpg_link_loss_ratio", "Highest loss that a peer reports.", labels=_LEG)
    for name, side, leg in tunnels:
        count.add_metric([name, side], leg["link_count"])
        unanswered.add_metric([name, side], leg["unanswered"]["for_s"] if leg["unanswered"] else 0)
        times = [link["srtt_ms"] / 1000 for link in leg["links"] if link["srtt_ms"] >= 0]
        if times:
            rtt.add_metric([name, side, "fastest"], min(times))
            rtt.add_metric([name, side, "mean"], sum(times) / len(times))
            rtt.add_metric([name, side, "slowest"], max(times))
        loss.add_metric([name, side], max((link["fec"]["loss"] for link in leg["links"]), default=0))
    used = GaugeMetricFamily("kcpg_segment_memory_bytes", "Memory of segments.", labels=_LEG)
    limit = GaugeMetricFamily("kcpg_segment_memory_limit_bytes", "The most there may be.", labels=_LEG)
    for name, side, leg in tunnels:
        if memory := leg.get("memory"):
            used.add_metric([name, side], memory["used_bytes"])
            limit.add_metric([name, side], memory["limit_bytes"])
    yield from (count, unanswered, rtt, loss, used, limit)


def _users(tunnels: Legs) -> Iterator[Metric]:
    """With workers, a user may have links in several."""
    links = GaugeMetricFamily("kcpg_user_links", "Links of a user now.", labels=["node", "user"])
    flows = GaugeMetricFamily("kcpg_user_flows", "Flows of a user now.", labels=["node", "user"])
    text = "UDP payload of the links that a user has now."
    carried = GaugeMetricFamily("kcpg_user_link_bytes", text, labels=["node", "user", "direction"])
    for name, _side, leg in tunnels:
        sums: dict[str, list[int]] = {}
        for row in leg.get("users", ()):
            known = sums.setdefault(row["name"], [0, 0, 0, 0])
            for place, field in enumerate(("links", "flows", "rx_bytes", "tx_bytes")):
                known[place] += row[field]
        for user, (link_count, flow_count, received, sent) in sums.items():
            links.add_metric([name, user], link_count)
            flows.add_metric([name, user], flow_count)
            carried.add_metric([name, user, "in"], received)
            carried.add_metric([name, user, "out"], sent)
    yield from (links, flows, carried)


def _totals(tunnels: Legs) -> Iterator[Metric]:
    for metric, text, label, fields in _TOTALS:
        family = CounterMetricFamily(metric, text, labels=[*_LEG, label] if label else _LEG)
        for name, side, leg in tunnels:
            for field, value in fields.items():
                family.add_metric([name, side, value] if label else [name, side], leg["totals"][field])
        yield family


def _named(metric: str, text: str, label: str, legs: Legs, field: str) -> Metric:
    family = CounterMetricFamily(metric, text, labels=[*_LEG, label])
    for name, side, leg in legs:
        for key, count in leg.get(field, {}).items():
            family.add_metric([name, side, key], count)
    return family
