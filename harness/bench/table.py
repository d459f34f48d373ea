"""Results as tables: for a terminal, and as Markdown for a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.bench.figures import PASSED, Row, Run, kind_of, read_run, rows
from harness.bench.systems.base import BULK, IDLE, LATENCY, MOBILE, PACED, SHORT, UDP
from harness.bench.workloads import WORKLOADS, Workload
from harness.process import Failed

# The systems of the ratios: kcpg and direct; times are also compared with the relay.
OWN, DIRECT, FLOOR = "kcpg", "direct", "udp-relay"

NONE = "–"

BEGIN, END = "<!-- bench: {} -->", "<!-- bench: end -->"  # Marks around a generated table in a document

QUIET = 0.15  # Load of other processes beyond which a document says that the machine was busy


@dataclass(frozen=True)
class Case:
    """A workload in a place, with all systems."""

    name: str
    rows: tuple[Row, ...]

    @property
    def workload(self) -> Workload:
        """Its workload."""
        return WORKLOADS[self.name.partition("@")[0]]

    @property
    def place(self) -> str:
        """Where."""
        return self.name.partition("@")[2]

    @property
    def kind(self) -> str:
        """The group that its figures belong to."""
        return kind_of(self.workload.group, self.workload.program)

    def row(self, system: str) -> Row | None:
        """The row of one system; None if it was not measured."""
        return next((row for row in self.rows if row.system == system), None)


def cases(runs: Sequence[Run]) -> list[Case]:
    """All cases of a run in order. Leaves out workloads that no longer exist."""
    names = [name for name in dict.fromkeys(run.case for run in runs) if name.partition("@")[0] in WORKLOADS]
    return [Case(name, tuple(rows(runs, name))) for name in names]


def read(document: Mapping[str, Any]) -> list[Run]:
    """The runs of a results file. Raises Failed for any other file."""
    try:
        return [read_run(values) for values in document["runs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Failed(f"this is not a results file: {error!r}") from None


# -- Columns --

Show = Callable[[Case, Row], str]

# The main figure of each kind of workload.
MAIN = {
    BULK: "mbit_s",
    LATENCY: "p50_us",
    SHORT: "per_s",
    UDP: "kpps",
    IDLE: "kb_each",
    PACED: "cpu_s_per_gb",
    MOBILE: "p95_ms",
}


def _number(value: float | None, places: int = 0) -> str:
    return NONE if value is None else f"{value:,.{places}f}"


def _median(figure: str, places: int = 0, factor: float = 1) -> Show:
    def show(case: Case, row: Row) -> str:
        value = row.median(figure)
        return _number(None if value is None else value * factor, places)

    return show


def _spread(case: Case, row: Row) -> str:
    figure = MAIN[case.kind]
    return f"±{row.spread(figure):.0%}" if len(row.values(figure)) > 1 else ""


def _of_direct(case: Case, row: Row) -> str:
    direct = case.row(DIRECT)
    ratio = row.ratio(direct, MAIN[case.kind]) if direct is not None else None
    return NONE if ratio is None else _significant(ratio)


def _own_over(case: Case, row: Row) -> str:
    own = case.row(OWN)
    ratio = own.ratio(row, MAIN[case.kind]) if own is not None else None
    return NONE if ratio is None or row.system == OWN else f"{_significant(ratio)}×"


def _cpu_of_own(figure: str) -> Show:
    def show(case: Case, row: Row) -> str:
        own = case.row(OWN)
        ratio = row.ratio(own, figure) if own is not None else None
        return NONE if ratio is None or row.system == OWN else f"{_significant(ratio)}×"

    return show


def _over(name: str, figure: str) -> Show:
    """How much longer a time is than that of another system."""

    def show(case: Case, row: Row) -> str:
        other = case.row(name)
        base, value = other.median(figure) if other else None, row.median(figure)
        itself = row.system in (name, DIRECT)
        return NONE if base is None or value is None or itself else f"{value - base:+,.0f}"

    return show


def _parts(figure: str, places: int) -> Show:
    """`0.81 + 0.64`: of each program, from the client to the server."""

    def show(case: Case, row: Row) -> str:
        prefix = f"{figure}_"
        names = [key for run in row.runs for key in run.figures if key.startswith(prefix)]
        return " + ".join(_number(row.median(name), places) for name in dict.fromkeys(names)) or NONE

    return show


def _of_limit(case: Case, row: Row) -> str:
    line, value = case.workload.line, row.median("mbit_s")
    limit = line.limit_mbit_s if line is not None else None
    return NONE if limit is None or value is None else f"{value / limit:.0%}"


def _significant(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


COLUMNS: Mapping[str, Sequence[tuple[str, Show]]] = {
    BULK: (
        ("Mbit/s", _median("mbit_s")),
        ("", _spread),
        ("of direct", _of_direct),
        ("kcpg is", _own_over),
        ("of the limit", _of_limit),
        ("CPU s/GB", _parts("cpu_s_per_gb", 2)),
        ("CPU of kcpg's", _cpu_of_own("cpu_s_per_gb")),
        ("peak MB", _median("peak_mb")),
        ("wire/payload", _median("wire_per_payload", 3)),
    ),
    LATENCY: (
        ("p50 us", _median("p50_us")),
        ("", _spread),
        ("p99 us", _median("p99_us")),
        ("p99.9 us", _median("p999_us")),
        ("p50 over direct", _over(DIRECT, "p50_us")),
        ("p99 over direct", _over(DIRECT, "p99_us")),
        ("p50 over relay", _over(FLOOR, "p50_us")),
        ("kcpg is", _own_over),
        ("CPU us each", _median("cpu_us_each", 1)),
        ("lost", _median("lost")),
    ),
    SHORT: (
        ("per second", _median("per_s")),
        ("", _spread),
        ("of direct", _of_direct),
        ("kcpg is", _own_over),
        ("p99 ms", _median("p99_ms", 1)),
        ("CPU us each", _median("cpu_us_each")),
        ("failed", _median("failed")),
    ),
    UDP: (
        ("1000 packets/s", _median("kpps")),
        ("", _spread),
        ("of direct", _of_direct),
        ("kcpg is", _own_over),
        ("CPU us each", _median("cpu_us_each", 2)),
        ("lost %", _median("lost_share", 2, 100)),
        ("peak MB", _median("peak_mb")),
    ),
    PACED: (
        ("CPU s/GB", _median("cpu_s_per_gb", 1)),
        ("", _spread),
        ("kcpg is", _own_over),
        ("each program", _parts("cpu_s_per_gb", 1)),
        ("Mbit/s", _median("mbit_s", 1)),
        ("of the limit", _of_limit),
        ("wire/payload", _median("wire_per_payload", 3)),
        ("peak MB", _median("peak_mb")),
    ),
    MOBILE: (
        ("p95 ms", _median("p95_ms")),
        ("", _spread),
        ("p50 ms", _median("p50_ms")),
        ("p99 ms", _median("p99_ms")),
        ("kcpg is", _own_over),
        ("Mbit/s", _median("mbit_s", 2)),
        ("CPU s/GB", _median("cpu_s_per_gb", 1)),
        ("peak MB", _median("peak_mb")),
    ),
    IDLE: (
        ("KB per flow", _parts("kb_each", 1)),
        ("kcpg is", _own_over),
        ("CPU %", _median("cpu_percent", 2)),
        ("kept after close %", _median("kept_share", 0, 100)),
        ("opened per second", _median("open_per_s")),
        ("peak MB", _median("peak_mb")),
    ),
}

# The cases of the short table.
SUMMARY: Sequence[str] = (
    "bulk-up@loopback",
    "short@loopback",
    "packets-64@loopback",
    "tcp-requests@veth",
    "lossy5@line",
    "requests-lossy5@line",
)


# -- Tables --


def grid(case: Case) -> list[list[str]]:
    """Heading and rows, without empty columns."""
    columns = COLUMNS[case.kind]
    body = []
    for row in case.rows:
        if row.verdict == PASSED:
            body.append([row.system, *(show(case, row) for _, show in columns)])
        else:
            reason = (row.reason.splitlines() or [""])[-1].strip()
            body.append([row.system, f"{row.verdict}: {reason}" if reason else row.verdict])
    head = ["", *(name for name, _ in columns)]
    whole = [line for line in body if len(line) == len(head)]
    keep = [at for at in range(len(head)) if at < 2 or any(line[at] not in (NONE, "") for line in whole)]
    return [[line[at] for at in keep] if len(line) == len(head) else line for line in [head, *body]]


def text(runs: Sequence[Run]) -> str:
    """The tables as text for a terminal."""
    return "\n\n".join(f"{case.name}: {case.workload.about}\n{aligned(grid(case))}" for case in cases(runs))


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns under their headings; a line with fewer fields stays as it is."""
    width = len(lines[0])
    whole = [line for line in lines if len(line) == width]
    widths = [max(len(line[at]) for line in whole) for at in range(width)]
    widths[0] = max(len(line[0]) for line in lines)
    shown = []
    for line in lines:
        first = "  " + line[0].ljust(widths[0])
        if len(line) == width:
            shown.append("  ".join([first, *map(str.rjust, line[1:], widths[1:])]).rstrip())
        else:
            shown.append(f"{first}  {'  '.join(line[1:])}")
    return "\n".join(shown)


def markdown(document: Mapping[str, Any], form: str) -> str:
    """`full`: every case with all figures; `summary`: one table with the main figure of some cases."""
    runs = read(document)
    note = _note(document, runs)
    if form == "summary":
        return f"{_summary(cases(runs))}\n\n{note}"
    parts = [note]
    for case in cases(runs):
        head, *body = grid(case)
        lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
        lines += [_line([*row, *[""] * (len(head) - len(row))]) for row in body]
        parts.append(f"**{case.name}**: {case.workload.about}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


UNITS = {
    BULK: "Mbit/s",
    LATENCY: "p50 us",
    SHORT: "per second",
    UDP: "1000 packets/s",
    IDLE: "KB per flow",
    PACED: "CPU s/GB",
    MOBILE: "p95 ms",
}


def _summary(found: Sequence[Case]) -> str:
    chosen = [case for name in SUMMARY for case in found if case.name == name]
    systems = list(dict.fromkeys(row.system for case in found for row in case.rows))
    lines = [_line(["", *(f"{case.name}, {UNITS[case.kind]}" for case in chosen)])]
    lines.append(_line(["---", *["---:"] * len(chosen)]))
    for system in systems:
        shown = []
        for case in chosen:
            row = case.row(system)
            if row is None:
                shown.append("")
            elif row.verdict != PASSED:
                shown.append(row.verdict)
            else:
                shown.append(_number(row.median(MAIN[case.kind])))
        if any(shown) and set(shown) - {"", "not given", "unsupported"}:
            lines.append(_line([system, *shown]))
    return "\n".join(lines)


def _note(document: Mapping[str, Any], runs: Sequence[Run]) -> str:
    machine = document.get("machine", {})
    loads = sorted(run.costs.foreign for run in runs if run.verdict == PASSED)
    busy = loads[len(loads) // 2] if loads else 0.0
    quiet = (
        "nothing else was running"
        if busy <= QUIET
        else f"**other processes used {busy:.0%} of the machine: trust the ratios, not the rates**"
    )
    often: dict[str, int] = {}
    for run in runs:
        often[run.case] = max(often.get(run.case, 0), run.repeat)
    repeats = " to ".join(
        str(n) for n in sorted({min(often.values(), default=0), max(often.values(), default=0)})
    )
    when, commit = str(document.get("when", ""))[:8], document.get("commit", "")
    cores = f"{machine.get('processors')} cores of {machine.get('processor')}"
    return (
        f"Measured {when} at {commit} on {cores}, Linux {machine.get('kernel')}; "
        f"medians of {repeats}; {quiet}."
    )


def _line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(field.replace('|', '/') for field in fields)} |"


def write_into(path: Path, document: Mapping[str, Any]) -> list[str]:
    """Put the tables between a file's marks; returns which. Raises Failed if it has no marks."""
    content = path.read_text(encoding="utf-8")
    done = []
    for form in ("summary", "full"):
        begin = BEGIN.format(form)
        if begin not in content:
            continue
        before, _, rest = content.partition(begin)
        _, found, after = rest.partition(END)
        if not found:
            raise Failed(f"{path} has {begin} and no {END} after it")
        content = f"{before}{begin}\n{markdown(document, form)}\n{END}{after}"
        done.append(form)
    if not done:
        raise Failed(f"{path} has no mark {BEGIN.format('summary')} or {BEGIN.format('full')}")
    path.write_text(content, encoding="utf-8")
    return done
