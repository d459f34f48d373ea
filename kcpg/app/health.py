"""Whether a process is fit to be given clients: what `health_listen` says to balancers and probes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from kcpg.app.config.model import Action, LegConfig, LegKind, NodeConfig
from kcpg.core.node import Node

Health = dict[str, Any]
Application = Callable[..., Iterable[bytes]]

METHODS = ("GET", "HEAD")


class Running(Protocol):
    """What is looked at of a node."""

    config: NodeConfig
    node: Node | None
    draining: bool


def node_health(running: Running) -> Health:
    """One node's; `links` and `max_links` are those of its listening tunnel leg, 0 without one."""
    config, node = running.config, running.node
    found: Health = {"name": config.name, "draining": running.draining, "links": 0, "max_links": 0}
    found["connected"] = node is not None
    if node is not None:
        for leg, live in ((config.ingress, node.ingress), (config.egress, node.egress)):
            _look(found, leg, live)
    return found


def _look(found: Health, config: LegConfig, leg: Any) -> None:
    if config.kind is not LegKind.TUNNEL:
        return
    if config.action is Action.LISTEN:
        found["links"] = len(leg.links)
        found["max_links"] = config.max_links
    elif config.is_native:  # other dialects have a link only while they have flows
        found["connected"] = bool(leg.links) and leg.unanswered is None


def merged(found: Sequence[Mapping[str, Any]], name: str) -> Health:
    """Of the workers of one node."""
    return {
        "name": name,
        "draining": any(one["draining"] for one in found),
        "links": sum(one["links"] for one in found),
        "max_links": sum(one["max_links"] for one in found),
        "connected": any(one["connected"] for one in found),
    }


def fault(found: Mapping[str, Any]) -> str:
    """Why a node should get no new clients; empty if it may."""
    if found["draining"]:
        return "draining"
    if not found["connected"]:
        return "no link to the next node"
    if found["max_links"] and found["links"] >= found["max_links"]:
        return "full"
    return ""


def application(nodes: Callable[[], list[Health]]) -> Application:
    """The WSGI application: 200 if all nodes are fit, else 503, with their figures as JSON."""

    def answer(environ: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in METHODS:
            start("405 Method Not Allowed", [("Allow", ", ".join(METHODS)), ("Content-Length", "0")])
            return []
        found = [
            {**one, "load": round(one["links"] / max(one["max_links"], 1), 4), "fault": fault(one)}
            for one in nodes()
        ]
        fit = not any(one["fault"] for one in found)
        page = json.dumps({"fit": fit, "nodes": found}).encode() + b"\n"
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(page))),
            ("Cache-Control", "no-store"),
        ]
        start("200 OK" if fit else "503 Service Unavailable", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]

    return answer
