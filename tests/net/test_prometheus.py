"""`metrics_listen`: what Prometheus reads."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kcpg.app.logoptions import LogOptions
from kcpg.app.prometheus import ReportCollector
from kcpg.app.run import RunningNode
from kcpg.app.service import Service
from tests.needs import needs
from tests.net import processes
from tests.net.test_process_chain import CLIENT, SERVER, write
from tests.net.test_running_node import carry, listen, nodes

__all__ = ["listen", "nodes"]

BOARD = Path(__file__).parents[2] / "packaging" / "grafana.json"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Each sample of a page, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def exposed(report: dict[str, Any]) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ReportCollector(lambda: report))
    return generate_latest(registry).decode()


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of this name that have these labels."""
    wanted = set(labels.items())
    return sum(value for (known, has), value in found.items() if known == name and wanted <= set(has))


def report_of(nodes: list[RunningNode]) -> dict[str, Any]:
    files = [node.config.file for node in nodes]
    service = Service(files, [node.config for node in nodes], LogOptions(), 5.0, None)
    service.nodes = list(nodes)
    return service.report()


def test_figures_are_those_of_the_nodes_and_the_board_knows_them(
    nodes: list[RunningNode], listen: int
) -> None:
    carry(listen)
    report = report_of(nodes)
    found = samples(exposed(report))
    assert total(found, "kcpg_flows_opened_total", node="client") == 1
    client = report["nodes"][0]["egress"]
    assert (
        total(found, "kcpg_datagram_bytes_total", node="client", direction="out")
        == client["totals"]["tx_bytes"]
        > 0
    )
    assert total(found, "kcpg_links", node="server", leg="ingress") == 1
    memory = report["nodes"][0]["egress"]["memory"]
    assert total(found, "kcpg_segment_memory_limit_bytes", node="client") == memory["limit_bytes"] > 0
    assert total(found, "kcpg_leg_events_total", node="client", event="inits_sent") >= 1
    assert total(found, "kcpg_config_last_reload_successful") == 1
    names = {name for name, _ in found} | {"process_cpu_seconds_total", "process_resident_memory_bytes"}
    board = set(re.findall(r"(?:kcpg|process)_[a-z_]+", BOARD.read_text("utf-8")))
    assert board - names - {"kcpg_drops_total"} == set(), "the board asks for what is not there"
    for name in names:
        assert re.fullmatch(r"(kcpg|process)_[a-z0-9_]+", name)
        assert not name.endswith(("_ms", "_percent", "_bits")), "base units"


def test_more_links_and_flows_make_no_more_series(nodes: list[RunningNode], listen: int) -> None:
    carry(listen)
    report = report_of(nodes)
    few = samples(exposed(report))
    for node in report["nodes"]:
        for side in ("ingress", "egress"):
            links = node[side].get("links", [])
            node[side]["links"] = [{**link, "peer": f"192.0.2.1:{n}"} for link in links for n in range(1000)]
        node["flow_list"] *= 1000
    assert samples(exposed(report)).keys() == few.keys()


def test_what_a_link_has_carried_stays_in_the_totals_when_it_ends(
    nodes: list[RunningNode], listen: int
) -> None:
    carry(listen)
    server = nodes[1].node
    assert server is not None
    before = nodes[1].snapshot()["ingress"]["totals"]
    nodes[0].close("the client goes")
    processes.until(lambda: _looked(nodes[1], server), "the link to end")
    after = nodes[1].snapshot()["ingress"]
    assert after["link_count"] == 0
    assert all(after["totals"][name] >= before[name] for name in before)
    assert after["totals"]["rx_bytes"] >= before["rx_bytes"] > 0


def _looked(node: RunningNode, inner: Any) -> bool:
    import gevent

    gevent.sleep(0.01)
    return not list(inner.ingress.links)


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[tuple[processes.Node, int, int, Path]]:
    """A client and a server with two workers in one process, whose figures are served."""
    tunnel, entry = processes.free_ports(2)
    (metrics,) = processes.free_ports(1)
    with processes.echo() as target:
        client = write(tmp_path, "client.conf", CLIENT, listen=entry, ports=tunnel)
        server = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)
        client.write_text(client.read_text() + f"metrics_listen=127.0.0.1:{metrics}\n")
        server.write_text(server.read_text() + "workers=2\n")
        node = processes.Node(tmp_path / "state", client, server).ready()
        try:
            yield node, metrics, entry, client
        finally:
            node.stop()


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=processes.PATIENCE_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def test_a_process_serves_the_figures_of_all_its_workers(scraped: Any) -> None:
    node, port, entry, client = scraped
    assert processes.exchange(entry, b"x" * 100_000) == b"x" * 100_000
    found = samples(page(port))
    assert total(found, "kcpg_workers_up", node="server") == 2
    assert total(found, "kcpg_flows_opened_total", node="server") == 1, "of whichever worker"
    assert total(found, "kcpg_payload_bytes_total", node="server") >= 100_000
    assert total(found, "process_open_fds") > 0
    client.write_text(re.sub("metrics_listen=.*\n", "", client.read_text()))
    node.signal(1)
    node.says("it changes what the process serves, and no node")
    with pytest.raises(urllib.error.URLError):
        page(port)


def test_a_port_that_is_taken_is_an_error_with_its_key(tmp_path: Path) -> None:
    with processes.echo() as taken:
        (tunnel,) = processes.free_ports(1)
        file = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=9)
        file.write_text(file.read_text() + f"metrics_listen=127.0.0.1:{taken}\n")
        done = processes.call(tmp_path / "state", file)
        assert done.returncode == 1
        assert f"metrics_listen=127.0.0.1:{taken}: Address already in use" in done.stderr


@pytest.mark.skipif(not shutil.which("prometheus"), reason=needs("prometheus"))
def test_prometheus_scrapes_it(scraped: Any, tmp_path: Path) -> None:
    _, port, entry, _ = scraped
    (own,) = processes.free_ports(1)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page(port), text=True, capture_output=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "scrape_configs:\n- job_name: kcpg\n  scrape_interval: 1s\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{port}']\n"
    )
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
         f"--web.listen-address=127.0.0.1:{own}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert processes.exchange(entry, b"y" * 50_000) == b"y" * 50_000

        def asked() -> float:
            query = "sum(kcpg_payload_bytes_total{node='client'})"
            url = f"http://127.0.0.1:{own}/api/v1/query?query={urllib.parse.quote(query)}"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                result = json.load(answer)["data"]["result"]
                return float(result[0]["value"][1]) if result else 0.0
            time.sleep(0.1)
            return 0.0

        processes.until(lambda: asked() >= 50_000, "the figure in Prometheus")
    finally:
        prometheus.terminate()
        prometheus.wait(processes.PATIENCE_S)
