"""Trace lines: what congestion control believes of a link is in the log, once for each change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import gevent.socket
import pytest

from kcpg.app import metrics, status_report, tracing
from kcpg.app.logs import TRACE
from kcpg.app.run import RunningNode
from kcpg.core.congestion import Phase
from tests.net import processes
from tests.net.test_running_node import carry, listen, running_nodes

__all__ = ["listen"]


@pytest.fixture
def nodes(tmp_path: Path, listen: int) -> Iterator[list[RunningNode]]:
    """A client and a server with `kcp=auto` and trace lines as JSON."""
    yield from running_nodes(tmp_path, listen, "json", "kcp=auto\nlog_level=trace\n")


def test_a_link_says_what_its_congestion_control_believes(
    nodes: list[RunningNode], listen: int, tmp_path: Path
) -> None:
    with gevent.Timeout(processes.PATIENCE_S), gevent.socket.create_connection(("127.0.0.1", listen)) as app:
        app.sendall(b"hello")
        assert app.recv(100) == b"hello"
        log = tmp_path / "client_output.log"
        while '"link_congestion"' not in log.read_text():
            gevent.sleep(tracing.INSPECT_S / 5)
    (link,) = metrics.snapshot(nodes[0])["egress"]["links"]
    believed = link["congestion"]
    assert believed["state"] in {phase.value for phase in Phase}
    assert believed["flight_limit_bytes"] > 0 and 0 <= believed["loss"] < 1
    page = " ".join(line.strip() for line in status_report.link_lines(link))
    assert status_report.congestion_words(believed) in page
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line for line in lines if line.get("kind") == tracing.LINK_CONGESTION]
    assert told[0].keys() >= {"monotonic_s", "leg", "srtt_ms", "tx_bytes", *believed}
    assert (told[0]["level"], told[0]["leg"], told[0]["peer"]) == ("trace", "egress", link["peer"])
    assert 0 <= time.monotonic() - told[0]["monotonic_s"] < processes.PATIENCE_S


def test_what_has_not_changed_is_told_once(nodes: list[RunningNode], listen: int) -> None:
    carry(listen)
    said = []
    log = nodes[0].log
    log.say = lambda level, *words, fields=None: said.append((level, fields))  # type: ignore[method-assign]
    tracer = tracing.CongestionTracer(nodes[0], log)
    tracer.inspect(1.0)
    (first,) = said
    assert first[0] == TRACE and first[1]["monotonic_s"] == 1.0
    tracer._told = {link: dict(told) for link, told in tracer._told.items()}  # equal, not the same
    (link,) = nodes[0].node.egress.links  # type: ignore[union-attr]
    before = metrics.congestion_snapshot(link)
    tracer.inspect(2.0)
    assert metrics.congestion_snapshot(link) == before, "nothing ran in between"
    assert len(said) == 1
    tracer._told[link]["state"] = "another"
    tracer.inspect(3.0)
    assert said[1][1]["monotonic_s"] == 3.0
