"""A run as a page: a table of all cases, and pictures of their measurements."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from harness.workloads.base import BIN_S

# The tunnel, and its baselines.
COLOURS = {"kcpg": "#0b6e4f", "cubic": "#c1440e", "bbr": "#2f5dc4", "udp": "#8a5a9e"}

VERDICT_COLOURS = {"passed": "#0b6e4f", "failed": "#b00020", "skipped": "#8a6d00", "unsupported": "#666666"}

# Goodput is drawn as a mean over this many tenths of a second; single ones show scheduling, not the line.
SMOOTH_BINS = 3

QUEUE_LINEAR_MS = 200.0  # Longer queues are drawn on a logarithmic scale, beyond this

LINEAR = 20  # Times that differ by more than this factor get a logarithmic scale

# A measurement of a case for kcpg, cubic or bbr; None if it has none.
Value = Callable[[Mapping[str, Any], str], float | None]

STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em}
table{border-collapse:collapse;width:100%}td,th{padding:.3em .6em;text-align:left;vertical-align:top;
border-bottom:1px solid #ddd}td.n,th.n{text-align:right}code,pre{font-size:13px}
pre{background:#f4f4f4;padding:.6em;overflow-x:auto}img{max-width:100%}h2{margin-top:2em}
section{border-top:2px solid #ddd;margin-top:2em}.wrong{color:#b00020}summary{cursor:pointer}"""


def write_report(out: Path, document: Mapping[str, Any]) -> Path:
    """Write report.html with its pictures inside, and each picture as a PNG beside it."""
    cases = document["cases"]
    parts = [_head(document), _summary(cases)]
    overview = _picture(out, "overview", _overview(cases))
    parts += [f"<h2>All measurements</h2>{overview}"] if overview else []
    for number, case in enumerate(cases, 1):
        parts.append(_section(out, number, case))
    parts.append(_links(document["links"]))
    page = out / "report.html"
    page.write_text("\n".join([*parts, "</body></html>"]), encoding="utf-8")
    return page


# -- The page --


def _head(document: Mapping[str, Any]) -> str:
    cases = document["cases"]
    counts = [
        f"<b style='color:{colour}'>{sum(case['verdict'] == verdict for case in cases)} {verdict}</b>"
        for verdict, colour in VERDICT_COLOURS.items()
    ]
    backends = sorted({name for case in cases for name in case["backends"]})
    names = {"box": "the link box in user space (not the kernel's netem)", "netem": "the kernel's netem"}
    lines = " and ".join(names.get(name, name) for name in backends) or "nothing"
    interrupted = " It was interrupted." if document["interrupted"] else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>kcpg end to end</title>"
        f"<style>{STYLE}</style></head><body><h1>kcpg end to end</h1>"
        f"<p>{', '.join(counts)} in {document['seconds']:.0f} s.{interrupted} "
        f"The lines were made by <b>{lines}</b>.</p>"
    )


def _summary(cases: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for number, case in enumerate(cases, 1):
        verdict = case["verdict"]
        colour = VERDICT_COLOURS[verdict]
        rows.append(
            f"<tr><td><a href='#case{number}'>{html.escape(case['scenario'])}</a></td><td>{_chain(case)}</td>"
            f"<td>{html.escape(case['profile'])}</td><td style='color:{colour}'>{verdict}</td>"
            f"<td>{html.escape('; '.join(_figures(case)))}{_reason(case)}</td>"
            f"<td class='n'>{case['seconds']:.1f} s</td></tr>"
        )
    return (
        "<table><tr><th>scenario</th><th>chain</th><th>profile</th><th>verdict</th><th>measured</th>"
        f"<th class='n'>time</th></tr>{''.join(rows)}</table>"
    )


def _chain(case: Mapping[str, Any]) -> str:
    """The roles of a case, and its dialect unless that is native."""
    return str(case["mode"] if case["dialect"] == "native" else f"{case['mode']}, {case['dialect']}")


def _section(out: Path, number: int, case: Mapping[str, Any]) -> str:
    title = f"{case['scenario']} · {_chain(case)} · {case['profile']}"
    stem = re.sub(r"[^a-z0-9]+", "-", f"{number:02}-{title.lower()}").strip("-")
    checks = "".join(
        f"<li class='{'right' if check['right'] else 'wrong'}'>{'✓' if check['right'] else '✗'} "
        f"{html.escape(': '.join(filter(None, (check['what'], check['found'][:300]))))}</li>"
        for check in case["checks"]
    )
    logs = "".join(
        f"<details><summary>log of {label}</summary><pre>{html.escape(text)}</pre></details>"
        for label, text in case["logs"].items()
    )
    facts = "".join(
        f"<li>{html.escape(name.replace('_', ' '))}: {html.escape(_fact(name, value))}</li>"
        for name, value in case["facts"].items()
    )
    return (
        f"<section id='case{number}'><h2>{html.escape(title)} "
        f"<span style='color:{VERDICT_COLOURS[case['verdict']]}'>{case['verdict']}</span></h2>"
        f"<pre>{html.escape(case['drawing'])}</pre>{_reason(case)}"
        f"<p>Again: <code>{html.escape(case['command'])}</code></p>"
        f"{_picture(out, stem, _pictures_of(case))}"
        f"{_picture(out, f'{stem}-course', courses_of(case))}"
        f"<ul>{facts}</ul><ul>{checks}</ul>{logs}</section>"
    )


def _links(links: Mapping[str, str]) -> str:
    if not links:
        return ""
    texts = "".join(f"<pre>{html.escape(text)}</pre>" for text in links.values())
    return f"<section><h2>The lines, as measured before their use</h2>{texts}</section>"


def _reason(case: Mapping[str, Any]) -> str:
    return f"<br><span class='wrong'>{html.escape(case['reason'])}</span>" if case["reason"] else ""


def _figures(case: Mapping[str, Any]) -> Iterator[str]:
    for name, report in case["measured"].items():
        if "mbit_s" in report:
            yield f"{name} {report['mbit_s']:.3g} Mbit/s"
        for way, times in _times(report):
            if times.get("count"):
                yield f"{name}{way} {times['p50']:.0f} ms median, {times['p99']:.0f} ms p99".replace(
                    "  ", " "
                )
    if "wire_overhead" in case["facts"]:
        yield f"overhead {case['facts']['wire_overhead']:.1%}"


def _times(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The distributions in a report, each with a suffix for its name."""
    if "times_ms" in report:
        yield "", report["times_ms"]
    for way in ("up", "down"):
        if way in report:
            yield f" {way}", report[way]["delay_ms"]


def _fact(name: str, value: Any) -> str:
    return f"{value:.1%}" if name == "wire_overhead" else str(value)


# -- The pictures --


def _picture(out: Path, stem: str, figure: Any) -> str:
    if figure is None:
        return ""
    path = out / f"{stem}.png"
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{html.escape(stem)}' src='data:image/png;base64,{data}'>"


def _pictures_of(case: Mapping[str, Any]) -> Any:
    """Goodput over time each way, distributions of times, and overhead, as far as the case has them."""
    measured = case["measured"]
    ways = [
        way for way in ("up", "down") if any(_goes(name, way, report) for name, report in measured.items())
    ]
    delays = any(times.get("count") for report in measured.values() for _, times in _times(report))
    overhead = "wire_overhead" in case["facts"]
    count = len(ways) + delays + overhead
    if not count:
        return None
    ratios = [3] * (len(ways) + delays) + [1] * overhead
    figure, grid = pyplot.subplots(
        1, count, figsize=(sum(ratios) * 1.55, 3.2), squeeze=False, width_ratios=ratios, layout="constrained"
    )
    axes = list(grid[0])
    for way in ways:
        _goodput(axes.pop(0), way, measured)
    if delays:
        _distributions(axes.pop(0), measured)
    if overhead:
        _overhead(axes.pop(0), case["facts"]["wire_overhead"])
    return figure


def _goes(name: str, way: str, report: Mapping[str, Any]) -> bool:
    return bool(report.get("bins")) and name.split()[-1] == way


def _goodput(axes: Axes, way: str, measured: Mapping[str, Any]) -> None:
    for name, report in measured.items():
        if not _goes(name, way, report):
            continue
        rates = [count * 8 / 1e6 / BIN_S for count in report["bins"]]
        smooth = _smooth(rates)
        times = [at * BIN_S for at in range(len(rates))]
        label = f"{name.removesuffix(way).strip()}: {report['mbit_s']:.3g} Mbit/s"
        axes.plot(times, smooth, label=label, color=_colour(name), linewidth=1.8)
    axes.set_title(f"goodput {way}: payload that arrived")
    axes.set_xlabel("seconds since the start")
    axes.set_ylabel("Mbit/s")
    axes.set_ylim(bottom=0)
    _finish(axes)


def _distributions(axes: Axes, measured: Mapping[str, Any]) -> None:
    for name, report in measured.items():
        for way, times in _times(report):
            if not times.get("count"):
                continue
            points, lost = times["points"], _lost(report, way)
            shares = [100 * (1 - lost) * at / (len(points) - 1) for at in range(len(points))]
            style = "--" if way == " down" else "-"
            label = f"{name}{way}".strip() + (f", {lost:.1%} lost" if lost else "")
            axes.plot(points, shares, style, label=label, color=_colour(name), linewidth=1.8)
    axes.set_title("latency: the share that had arrived by then")
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("% of those sent")
    axes.set_ylim(0, 102)
    if _spread(measured) > LINEAR:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    else:
        axes.set_xlim(0, axes.get_xlim()[1] * 1.05)
    _finish(axes)


def _lost(report: Mapping[str, Any], way: str) -> float:
    """The share that was sent but never arrived, for packets."""
    return float(report.get(way.strip(), {}).get("lost", 0.0))


def _spread(measured: Mapping[str, Any]) -> float:
    """The ratio of the longest time to the shortest."""
    points = [
        point
        for report in measured.values()
        for _, times in _times(report)
        for point in times.get("points", ())
    ]
    return float(max(points) / max(min(points), 1e-3))


def _overhead(axes: Axes, share: float) -> None:
    axes.bar(["payload"], [100], color="#d0d0d0")
    axes.bar(["on wire"], [100 + share * 100], color=COLOURS["kcpg"])
    axes.set_title(f"overhead {share:.1%}")
    axes.set_ylabel("bytes, % of the payload")
    axes.grid(axis="y", alpha=0.3)


def _overview(cases: Sequence[Mapping[str, Any]]) -> Any:
    """Goodput of all bulk cases and latency of all latency cases beside direct TCP; overhead of all."""
    bulk = [case for case in cases if case["scenario"] == "bulk" and _mean_rate(case, "kcpg") is not None]
    latency = [case for case in cases if case["scenario"] == "latency" and _p99(case, "kcpg") is not None]
    weighed = [case for case in cases if "wire_overhead" in case["facts"]]
    groups: list[tuple[str, str, Sequence[Mapping[str, Any]], Value]] = [
        ("goodput of one flow, mean of up and down", "Mbit/s (logarithmic)", bulk, _mean_rate),
        ("latency: 99th percentile of the requests", "milliseconds (logarithmic)", latency, _p99),
        ("wire overhead, all headers included", "% of the payload", weighed, _overhead_of),
    ]
    groups = [group for group in groups if len(group[2]) > 1]
    if not groups:
        return None
    rows = max(len(chosen) for _, _, chosen, _ in groups)
    figure, grid = pyplot.subplots(
        1, len(groups), figsize=(5.6 * len(groups), 1.2 + 0.62 * rows), squeeze=False, layout="constrained"
    )
    for axes, (title, unit, chosen, value) in zip(grid[0], groups, strict=True):
        _bars(axes, chosen, value)
        if value is not _overhead_of:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda amount, _: _short(amount)))
        axes.set_title(title)
        axes.set_xlabel(unit)
        axes.margins(x=0.15)
    return figure


def courses_of(case: Mapping[str, Any]) -> Any:
    """Over a line that changes: rate, queue and round trip over time, each way; None without any course."""
    courses = case.get("courses", {})
    ways = [way for way in ("up", "down") if any(course["way"] == way for course in courses.values())]
    if not ways:
        return None
    figure, grid = pyplot.subplots(
        3, len(ways), figsize=(8 * len(ways), 9), squeeze=False, sharex="col", layout="constrained"
    )
    for column, way in enumerate(ways):
        own = {name: course for name, course in courses.items() if course["way"] == way}
        rate, queue, delay = (grid[row][column] for row in range(3))
        _course_rate(rate, way, own, case["measured"])
        _course_queue(queue, own)
        _course_delay(delay, own)
        delay.set_xlabel("seconds of the line's timeline")
        first_s = min(course["since_s"] for course in own.values())
        # What drains after the senders' time says little.
        last_s = max(course["since_s"] + course["seconds"] for course in own.values())
        for axes in (rate, queue, delay):
            axes.set_xlim(max(first_s, 0), last_s)
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(
                    fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, borderpad=0
                )
    return figure


def _course_rate(
    axes: Axes, way: str, own: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Any]
) -> None:
    """Goodput over the capacity of the line, and the rate that the sending node believed in."""
    capacity = _smooth(max((course["capacity"] for course in own.values()), key=len))
    times = [at * BIN_S for at in range(len(capacity) + 1)]
    axes.stairs(capacity, times, fill=True, color="#d9d9d9", label="the line's capacity")
    for name, course in own.items():
        report = measured[name]
        rates = _smooth([count * 8 / 1e6 / BIN_S for count in report["bins"]])
        times = [course["since_s"] + (at + 0.5) * BIN_S for at in range(len(rates))]
        label = f"{name.removesuffix(way).strip()}: {report['mbit_s']:.3g} Mbit/s"
        axes.plot(times, rates, label=label, color=_colour(name), linewidth=1.5)
        if course["believed"]:
            at_s, believed, _, _ = zip(*course["believed"], strict=True)
            axes.plot(at_s, believed, ":", color="#000000", label="kcpg believes", linewidth=1.2)
    axes.set_ylim(0, 1.3 * max([*capacity, 0.1]))
    axes.set_ylabel("Mbit/s")
    axes.set_title(f"{way}: rate", loc="left")


def _course_queue(axes: Axes, own: Mapping[str, Mapping[str, Any]]) -> None:
    """How long a packet would have waited before the line."""
    most = 0.0
    for name, course in own.items():
        at_s = [at for at, _ in course["queue"]]
        queue_ms = [waits for _, waits in course["queue"]]
        axes.plot(at_s, queue_ms, color=_colour(name), label=name.rpartition(" ")[0], linewidth=1.3)
        most = max([most, *queue_ms])
    if most > QUEUE_LINEAR_MS:
        axes.set_yscale("symlog", linthresh=QUEUE_LINEAR_MS)
        axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms")
    axes.set_title("queue before the line", loc="left")


def _course_delay(axes: Axes, own: Mapping[str, Mapping[str, Any]]) -> None:
    """The round trip: the line's without any queue, and what the sending node measured and believed."""
    base = max((course["base"] for course in own.values()), key=len)
    at_s, base_ms = [at for at, _ in base], [delay for _, delay in base]
    axes.plot(at_s, base_ms, color="#aaaaaa", label="line without queue", linewidth=4)
    for name, course in own.items():
        if course["believed"]:
            at_s, _, rtt_ms, least_ms = map(list, zip(*course["believed"], strict=True))
            axes.plot(at_s, rtt_ms, color=_colour(name), label="kcpg measures", linewidth=1.5)
            axes.plot(at_s, least_ms, ":", color="#000000", label="shortest, kcpg believes", linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms")
    axes.set_title("round trip", loc="left")


def _smooth(rates: Sequence[float]) -> list[float]:
    """The mean of the last bins at each."""
    last = [rates[max(at - SMOOTH_BINS + 1, 0) : at + 1] for at in range(len(rates))]
    return [sum(some) / len(some) for some in last]


def _bars(axes: Axes, chosen: Sequence[Mapping[str, Any]], value: Value) -> None:
    """A group of bars for each case: the tunnel and its baselines."""
    names = {"kcpg": "kcpg", "cubic": "direct CUBIC", "bbr": "direct BBR"}
    seen = set()
    for at, case in enumerate(chosen):
        amounts = [(who, amount) for who in names if (amount := value(case, who)) is not None]
        for offset, (who, amount) in enumerate(amounts):
            label = None if who in seen else names[who]
            seen.add(who)
            place = at + (offset - (len(amounts) - 1) / 2) * 0.27
            axes.barh(place, amount, 0.25, color=COLOURS[who], label=label)
            axes.text(amount, place, f" {_short(amount)}", va="center", fontsize=8)
    axes.set_yticks(range(len(chosen)), [f"{case['profile']}\n{_where(case)}" for case in chosen])
    axes.invert_yaxis()
    if len(seen) > 1:
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.04), ncols=3, frameon=False)


def _where(case: Mapping[str, Any]) -> str:
    return _chain(case) if case["scenario"] in ("bulk", "latency") else f"{_chain(case)}, {case['scenario']}"


def _short(amount: float) -> str:
    """Three digits, or whole numbers."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def _mean_rate(case: Mapping[str, Any], who: str) -> float | None:
    rates = [
        report["mbit_s"] for name, report in case["measured"].items() if who in name and "mbit_s" in report
    ]
    return sum(rates) / len(rates) if rates else None


def _p99(case: Mapping[str, Any], who: str) -> float | None:
    for name, report in case["measured"].items():
        if who in name and report.get("times_ms", {}).get("count"):
            return float(report["times_ms"]["p99"])
    return None


def _overhead_of(case: Mapping[str, Any], who: str) -> float | None:
    return float(case["facts"]["wire_overhead"]) * 100 if who == "kcpg" else None


def _colour(name: str) -> str:
    return next((colour for part, colour in COLOURS.items() if part in name), "#444444")


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    # Below the picture, where it hides no line.
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)


def draw_curves(file: Path, curves: Mapping[str, Sequence[float]], along: str, up: str) -> None:
    """For each name: how many of its values are not larger."""
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, values in curves.items():
        axes.step([0, *values], range(len(values) + 1), where="post", label=name)
    axes.set_xlabel(along)
    axes.set_ylabel(up)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
