"""docs/status.md describes the JSON report: every field that there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gevent.socket
import pytest

from kcpg.app.logoptions import LogOptions
from kcpg.app.run import RunningNode
from kcpg.app.service import SCHEMA, Service
from kcpg.app.workers.merge import merge
from tests.net.test_running_node import carry, listen, nodes

PAGE = Path(__file__).parents[2] / "docs" / "status.md"

__all__ = ["listen", "nodes"]

# Of nodes that this test does not run.
ELSEWHERE = re.compile(
    r"\.workers\[\]\.|\.users\[\]\.|links\[\]\.(carries|smux|compresses|peer_fec)$|\.worker$|\.congestion\."
)


def documented() -> set[str]:
    """The paths of all fields: those of each table below the paths of its heading."""
    found = set()
    for section in PAGE.read_text("utf-8").split("\n### ")[1:]:
        heading, _, body = section.partition("\n")
        for above in re.findall(r"`(\[\][^`]*)`", heading):
            for row in re.findall(r"^\| (`.*?`) \|", body, re.MULTILINE):
                found.update(f"{above}.{name}" for name in re.findall(r"`([^`]+)`", row))
    return found


def paths(at: str, value: Any, known: set[str]) -> set[str]:
    """Of every value in a report, without the names of free maps."""
    if f"{at}.*" in known:
        return {f"{at}.*"}
    if isinstance(value, dict):
        return {path for key, part in value.items() for path in paths(f"{at}.{key}", part, known)}
    if isinstance(value, list):
        inside = {path for part in value for path in paths(f"{at}[]", part, known)}
        return inside | ({f"{at}[]"} if f"{at}[]" in known else set())
    return {at}


@pytest.fixture
def report(nodes: list[RunningNode], listen: int) -> dict[str, Any]:
    """Of a client and a server with a flow, one that fails, and a trouble."""
    carry(listen)
    open_flow = gevent.socket.create_connection(("127.0.0.1", listen))
    open_flow.sendall(b"x")
    open_flow.recv(1)
    nodes[0]._reporter.troubles.note("tunnel", "no_answer", "", "nobody there")
    files = [node.config.file for node in nodes]
    service = Service(files, [node.config for node in nodes], LogOptions(), 5.0, None)
    service.nodes = list(nodes)
    made = service.report()
    made["nodes"][0]["egress"]["unanswered"] = {"handshakes": 1, "for_s": 1.0}
    open_flow.close()
    return made


def test_the_page_and_a_report_have_the_same_fields(report: dict[str, Any]) -> None:
    known = documented()
    assert len(known) > 80
    real = paths("[]", report, known)
    containers = {path for path in known for other in known if other != path and other.startswith(f"{path}.")}
    nullable = {
        f"[].nodes[].{side}.{name}"
        for side in ("ingress", "egress")
        for name in ("unanswered", "links[].congestion")
    }
    assert real - known - nullable == set(), "not in docs/status.md"
    missing = {path for path in known - real - containers if not ELSEWHERE.search(path)}
    one_leg = {path for path in missing if ".ingress." in path and path.replace("ingress", "egress") in real}
    one_leg |= {path for path in missing if ".egress." in path and path.replace("egress", "ingress") in real}
    assert missing - one_leg == set(), "in docs/status.md, but not in a report"
    assert f"version of this report: {SCHEMA} |" in PAGE.read_text("utf-8")


def test_workers_reports_become_one_with_their_troubles(nodes: list[RunningNode], listen: int) -> None:
    carry(listen)
    first, second = nodes[0].snapshot(), nodes[0].snapshot()
    first["egress"]["unanswered"], second["egress"]["unanswered"] = None, {"handshakes": 3, "for_s": 2.0}
    third = nodes[0].snapshot()
    third["egress"]["unanswered"] = {"handshakes": 4, "for_s": 9.0}
    whole = merge({0: first, 1: second, 2: third})
    assert whole["egress"]["unanswered"] == {"handshakes": 7, "for_s": 9.0}
    assert len(whole["egress"]["links"]) == 3
