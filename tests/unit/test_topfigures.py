"""What `kcpg top` computes, and the page itself, driven by textual's pilot."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from kcpg.app import topfigures
from kcpg.app.topfigures import FLOW_COLUMNS, LINK_COLUMNS, figures, ordered
from tests.needs import needs
from tests.unit.test_status import LINK, NODE, REPORT, TUNNEL

FLOW = {
    "kind": "tcp", "source": "192.0.2.9:5000", "target": "", "up": 1000, "down": 5000, "segments_resent": 3,
}  # fmt: skip


def report(at_s: float, **more: Any) -> dict[str, Any]:
    """Of a client with two links and two flows."""
    slow = {**LINK, "peer": "192.0.2.2:3000", "srtt_ms": 90, **more}
    quick = {**LINK, "peer": "192.0.2.1:3000", "local_port": 40001}
    flows = [FLOW, {**FLOW, "source": "[bold]9.9.9.9[/bold]", "up": 7}]
    node = {**NODE, "egress": {**TUNNEL, "links": [slow, quick]}, "flow_list": flows}
    return copy.deepcopy({**REPORT, "pid": 77, "at_s": at_s, "nodes": [node]})


def test_rates_are_differences_and_never_negative() -> None:
    before, now = report(10.0), report(12.0, tx_bytes=999 + 2_000_000, rx_bytes=0)
    now["nodes"][0]["flow_list"][0]["down"] += 500
    found = figures([now], [before])
    slow, quick = found.links
    assert slow.values[LINK_COLUMNS.index("out b/s")] == 8_000_000
    assert slow.values[LINK_COLUMNS.index("in b/s")] == 0, "the counter began anew"
    assert quick.values[LINK_COLUMNS.index("out b/s")] == 0
    assert (found.in_bps, found.out_bps) == (0, 8_000_000)
    assert found.flows[0].values[FLOW_COLUMNS.index("down/s")] == 250
    assert slow.cells[LINK_COLUMNS.index("resent")] == "2.5%"


def test_the_first_report_has_no_rates() -> None:
    assert figures([report(10.0)], []).out_bps == 0


@pytest.mark.parametrize("columns", [LINK_COLUMNS, FLOW_COLUMNS])
def test_every_column_sorts(columns: tuple[str, ...]) -> None:
    found = figures([report(12.0)], [report(10.0)])
    rows = found.links if columns is LINK_COLUMNS else found.flows
    for column in range(len(columns)):
        up = [row.values[column] for row in ordered(rows, column, False)]
        assert up == sorted(up) and len(rows[0].values) == len(rows[0].cells) == len(columns)


def test_the_page_shows_sorts_and_ends() -> None:
    pytest.importorskip("textual", reason=needs("textual"))
    from textual.widgets import DataTable, Sparkline, Static

    from kcpg.app.top import Top

    at_s = iter(range(10, 10_000))

    def ask() -> list[dict[str, Any]]:
        now = next(at_s)
        return [report(float(now), tx_bytes=now * 1_000_000)]

    async def drive() -> None:
        page = Top(ask, 3600.0)
        async with page.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            await page.renew()
            links, flows = (page.query_one(f"#{name}", DataTable) for name in ("links", "flows"))

            def peers() -> list[str]:
                return [links.get_row_at(index)[2].plain for index in range(links.row_count)]

            assert peers() == ["192.0.2.2:3000", "192.0.2.1:3000"], "the busier one is first"
            assert "8.00M" in [cell.plain for cell in links.get_row_at(0)]
            assert "2 links, 2 flows; in 0b/s, out 8.00Mb/s" in str(
                page.query_one("#summary", Static).render()
            )
            assert page.query_one("#out", Sparkline).data[-1] == 8_000_000
            await pilot.press("r")
            assert peers() == ["192.0.2.1:3000", "192.0.2.2:3000"]
            for _ in range(len(LINK_COLUMNS) - LINK_COLUMNS.index("out b/s") + LINK_COLUMNS.index("rtt")):
                await pilot.press("s")
            headings = [column.label.plain for column in links.columns.values()]
            assert "rtt ^" in headings
            shown = [flows.get_row_at(index)[2].plain for index in range(flows.row_count)]
            assert "[bold]9.9.9.9[/bold]" in shown, "no markup of a peer's"
            await pilot.press("tab", "r")
            assert "up/s ^" in [column.label.plain for column in flows.columns.values()]
            await pilot.press("q")
        assert page.return_code == 0

    asyncio.run(drive())


def test_without_textual_the_command_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from kcpg.app import cli

    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setitem(sys.modules, "textual.app", None)
    monkeypatch.delitem(sys.modules, "kcpg.app.top", raising=False)
    assert cli.main(["top"]) == 1
    assert "pip install textual" in capsys.readouterr().err


def test_nothing_that_runs_is_no_error() -> None:
    assert topfigures.figures([], []) == topfigures.Figures([], [], 0.0, 0.0)
