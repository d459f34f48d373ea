"""`kcpg top`: links and flows on a page of the terminal, renewed each second, sorted by any column."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.widgets import DataTable, Footer, Sparkline, Static

from kcpg.app.topfigures import FLOW_COLUMNS, LINK_COLUMNS, Figures, Report, Row, figures, ordered
from kcpg.app.wording import brief, counted

HISTORY = 120  # Moments that a sparkline shows: two minutes at the usual interval

MOST_ROWS = 500  # Rows of a table; the sorting decides which

Table = DataTable[Text]


class Top(App[None]):
    """The page. `ask` returns a report for each process that answers; it may block."""

    CSS = """
    #summary { height: 1; }
    .rate { height: 2; margin: 0 1; }
    #links { height: 1fr; }
    #flows { height: 1fr; border-top: solid $accent; }
    """
    BINDINGS: ClassVar = [
        ("q", "quit", "Quit"),
        ("s", "sort", "Sort by the next column"),
        ("r", "reverse", "Reverse"),
        ("tab", "focus_next", "Links or flows"),
    ]

    def __init__(self, ask: Callable[[], Sequence[Report]], every_s: float) -> None:
        super().__init__()
        self._ask = ask
        self._every_s = every_s
        self._before: Sequence[Report] = ()
        self._now: Figures | None = None
        self._rates = {"in": deque([0.0], HISTORY), "out": deque([0.0], HISTORY)}
        # By table: column and whether the largest comes first. Rates are what people look for.
        self._sorting = {
            "links": (LINK_COLUMNS.index("out b/s"), True),
            "flows": (FLOW_COLUMNS.index("up/s"), True),
        }

    def compose(self) -> ComposeResult:
        """The parts of the page, from top to bottom."""
        yield Static(id="summary")
        yield Sparkline(id="in", classes="rate")
        yield Sparkline(id="out", classes="rate")
        yield DataTable(id="links", cursor_type="row")
        yield DataTable(id="flows", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self.query_one("#links").focus()
        self.set_interval(self._every_s, self.renew)
        self.call_later(self.renew)

    async def renew(self) -> None:
        """Ask the processes, and show what they say."""
        reports = await asyncio.to_thread(self._ask)
        self._now = figures(reports, self._before)
        self._before = reports
        self._rates["in"].append(self._now.in_bps)
        self._rates["out"].append(self._now.out_bps)
        self._show()

    def action_sort(self) -> None:
        """Sort the table in use by its next column."""
        name, columns = self._in_use()
        column, falling = self._sorting[name]
        self._sorting[name] = (column + 1) % len(columns), falling
        self._show()

    def action_reverse(self) -> None:
        """Turn the order of the table in use round."""
        name, _ = self._in_use()
        column, falling = self._sorting[name]
        self._sorting[name] = column, not falling
        self._show()

    def _in_use(self) -> tuple[str, tuple[str, ...]]:
        is_flows = self.focused is not None and self.focused.id == "flows"
        return ("flows", FLOW_COLUMNS) if is_flows else ("links", LINK_COLUMNS)

    def _show(self) -> None:
        now = self._now
        if now is None:
            return
        rates = f"in {brief(now.in_bps)}b/s, out {brief(now.out_bps)}b/s"
        what = f"{counted(len(now.links), 'link')}, {counted(len(now.flows), 'flow')}; {rates}"
        text = what if self._before else "nothing is running"
        self.query_one("#summary", Static).update(Text(text))
        for name, rates_of in self._rates.items():
            self.query_one(f"#{name}", Sparkline).data = list(rates_of)
        self._fill("links", LINK_COLUMNS, now.links)
        self._fill("flows", FLOW_COLUMNS, now.flows)

    def _fill(self, name: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        table = self.query_one(f"#{name}", DataTable)
        row, (column, falling) = table.cursor_row, self._sorting[name]
        table.clear(columns=True)
        for index, heading in enumerate(columns):
            mark = "" if index != column else " v" if falling else " ^"
            table.add_column(Text(heading + mark))
        for one in ordered(rows, column, falling)[:MOST_ROWS]:
            table.add_row(*(Text(cell) for cell in one.cells))  # plain: what peers say is no markup
        table.move_cursor(row=row)
