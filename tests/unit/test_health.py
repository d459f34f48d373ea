"""What a node says to balancers and probes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from kcpg.app.config.model import Action, LegKind
from kcpg.app.health import application, fault, merged, node_health

GOOD = {"name": "a", "draining": False, "links": 3, "max_links": 10, "connected": True}


def asked(nodes: list[dict[str, Any]], method: str = "GET") -> tuple[str, bytes]:
    said: list[Any] = []
    app = application(lambda: nodes)
    body = b"".join(app({"REQUEST_METHOD": method}, lambda *words: said.append(words)))
    headers = dict(said[0][1])
    if method == "GET":
        assert int(headers["Content-Length"]) == len(body)
    return said[0][0], body


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"draining": True}, "draining"),
        ({"connected": False}, "no link to the next node"),
        ({"links": 10}, "full"),
        ({"links": 5, "max_links": 0}, ""),
    ],
)
def test_a_node_is_fit_or_says_why_not(change: dict[str, Any], why: str) -> None:
    one = {**GOOD, **change}
    assert fault(one) == why
    status, body = asked([GOOD, one])
    assert status[:3] == ("503" if why else "200")
    page = json.loads(body)
    assert page["fit"] is not bool(why) and [node["fault"] for node in page["nodes"]] == ["", why]
    assert page["nodes"][0]["load"] == 0.3


def test_only_questions_are_answered() -> None:
    assert asked([GOOD], "HEAD") == ("200 OK", b"")
    assert asked([GOOD], "POST") == ("405 Method Not Allowed", b"")


def leg(kind: LegKind, action: Action, native: bool = True) -> Any:
    return SimpleNamespace(kind=kind, action=action, is_native=native, max_links=7)


@pytest.mark.parametrize(
    ("links", "unanswered", "connected"), [([1], None, True), ([1], (3, 0), False), ([], None, False)]
)
def test_a_relay_needs_a_link_to_the_next_node(links: list[int], unanswered: Any, connected: bool) -> None:
    config = SimpleNamespace(
        name="relay",
        ingress=leg(LegKind.TUNNEL, Action.LISTEN),
        egress=leg(LegKind.TUNNEL, Action.DIAL),
    )
    node = SimpleNamespace(
        ingress=SimpleNamespace(links=[1, 2]), egress=SimpleNamespace(links=links, unanswered=unanswered)
    )
    running: Any = SimpleNamespace(config=config, node=node, draining=False)
    found = node_health(running)
    assert (found["links"], found["max_links"], found["connected"]) == (2, 7, connected)
    config.egress.is_native = False
    assert node_health(running)["connected"], "links of other dialects come with flows"
    running.node = None
    assert not node_health(running)["connected"], "it does not run yet"


def test_workers_are_one_node() -> None:
    assert merged([GOOD, {**GOOD, "connected": False}], "all") == {
        "name": "all",
        "draining": False,
        "links": 6,
        "max_links": 20,
        "connected": True,
    }
    assert fault(merged([], "all")) == "no link to the next node"
