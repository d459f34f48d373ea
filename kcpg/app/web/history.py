"""What the page shows: figures of now, and those of the last hour, a point every few seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from kcpg.app.topfigures import FLOW_COLUMNS, LINK_COLUMNS, Figures, Report, Row, figures, ordered

EVERY_S = 5.0  # A report of a busy node takes some milliseconds; a plot of an hour has no more pixels

POINTS = 720  # An hour of them

MOST_ROWS = 200  # Rows of a table, the fastest; `kcpg top` and the report have more

Point = dict[str, float | None]

POINT = ("at_s", "in_bps", "out_bps", "loss", "rtt_ms", "queue_ms")


class History:
    """Samples what `report` says, as long as `run` goes on."""

    def __init__(self, report: Callable[[], Report], every_s: float = EVERY_S) -> None:
        self._report = report
        self._every_s = every_s
        self._before: Report | None = None
        self._figures = Figures([], [], 0.0, 0.0)
        self._points: deque[Point] = deque(maxlen=POINTS)

    def run(self) -> None:
        """Take a sample now and after every interval, until killed."""
        while True:
            self.sample()
            gevent.sleep(self._every_s)

    def sample(self) -> None:
        """Ask once."""
        report = self._report()
        before = self._before
        self._figures = figures([report], [before] if before is not None else [])
        self._before = report
        if before is not None:
            self._points.append(point(report, before, self._figures))

    def data(self) -> dict[str, Any]:
        """All that the page shows."""
        report = self._before or {}
        return {
            "version": report.get("version", ""),
            "engine": report.get("engine", ""),
            "uptime_s": report.get("uptime_s", 0),
            "every_s": self._every_s,
            "nodes": [
                {"name": node["name"], "role": node["role"], "troubles": list(troubles(node))}
                for node in report.get("nodes", ())
            ],
            "in_bps": self._figures.in_bps,
            "out_bps": self._figures.out_bps,
            "links": table(LINK_COLUMNS, self._figures.links, "out b/s"),
            "flows": table(FLOW_COLUMNS, self._figures.flows, "up/s"),
            "history": {name: [one[name] for one in self._points] for name in POINT},
        }


def table(columns: tuple[str, ...], rows: list[Row], by: str) -> dict[str, Any]:
    """Headings and the rows that are largest in one column; what sorts them, and what is shown."""
    kept = ordered(rows, columns.index(by), True)[:MOST_ROWS]
    return {
        "columns": columns,
        "count": len(rows),
        "values": [row.values for row in kept],
        "cells": [row.cells for row in kept],
    }


def troubles(node: Report) -> Iterator[str]:
    """What is wrong with a node, in words, as in its status."""
    for trouble in node.get("troubles", ()):
        yield trouble["text"]


def point(report: Report, before: Report, now: Figures) -> Point:
    """One moment: the rates of all tunnels, and the mean of their links' loss, round trip and queue, weighted
    by what each link carried since `before`; unweighted where nothing moved."""
    olds = {_key(*found): found[2] for found in _links(before)}
    rows: list[tuple[float, float, float | None, float | None]] = []
    for found in _links(report):
        link, old = found[2], olds.get(_key(*found))
        moved = sum(max(link[name] - (old or {}).get(name, 0), 0) for name in ("rx_bytes", "tx_bytes"))
        control = link.get("congestion") or {}
        loss = max(link["fec"]["loss"], control.get("loss", 0.0))
        rows.append((moved, loss, link["srtt_ms"] if link["srtt_ms"] >= 0 else None, control.get("queue_ms")))
    return {
        "at_s": round(time.time(), 1),
        "in_bps": round(now.in_bps),
        "out_bps": round(now.out_bps),
        "loss": _mean([(row[0], row[1]) for row in rows]),
        "rtt_ms": _mean([(row[0], row[2]) for row in rows]),
        "queue_ms": _mean([(row[0], row[3]) for row in rows]),
    }


def _links(report: Report) -> Iterator[tuple[str, str, Report]]:
    for node in report["nodes"]:
        for side in ("ingress", "egress"):
            for link in node.get(side, {}).get("links", ()):
                yield node["file"], side, link


def _key(file: str, side: str, link: Report) -> tuple[object, ...]:
    return file, side, link.get("worker"), link["peer"], link["local_port"], link.get("carries")


def _mean(pairs: list[tuple[float, float | None]]) -> float | None:
    known = [(weight, value) for weight, value in pairs if value is not None]
    weight = sum(one for one, _ in known)
    if not known:
        return None
    if not weight:
        return round(sum(value for _, value in known) / len(known), 4)
    return round(sum(one * value for one, value in known) / weight, 4)
