"""A profile's direction as `tc` commands, and what `tc` shows once they took effect.

Everything but `probe` and the three functions that run `tc` is pure. Observed with iproute2 6.1 on Linux 6.1:

- `tc qdisc change` and `replace` keep what they do not name (reorder, corrupt, rate, the distribution), so
  `update_commands` changes in place only if nothing must go; otherwise it deletes and adds.
- tc reads times in microseconds and keeps them in ticks of 64 ns, so they come back up to 1 us smaller.
- `duplicate P C` forgets C unless another correlation is given, so all impairments with one are written out.
- `distribution uniform` does not exist (it is the default), and `reorder` needs `delay`.
- netem counts a packet of several segments as one: interfaces under netem need their offloads off.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import isclose
from typing import Any

from netem.profile import Chance, FourState, GilbertElliott, Impair, PortThrottle

Argv = list[str]
Runner = Callable[[Argv], str]  # Runs a command and returns its output; raises if it fails

# Classes of the port throttle: this many consecutive ports have their own buckets, more must share.
PORT_CLASSES = 64

TICK_S = 1.1e-6  # tc keeps times in ticks and shows them truncated to microseconds

PORT_KEYS = {"up": "proto-dst", "down": "proto-src"}  # Where the port of the server's side is, by direction


def unsupported(impair: Impair) -> list[str]:
    """Why tc cannot do this; empty if it can."""
    reasons = []
    if impair.droplist:
        reasons.append("droplist: tc cannot drop packets by their number")
    for key, there in (("outage", impair.outage), ("steps", impair.steps), ("swing", impair.swing)):
        if there:
            reasons.append(f"{key}: tc has no timeline")
    if impair.police is not None:
        reasons.append("police: netem has no bucket without a queue")
    if impair.trace is not None:
        reasons.append("trace: tc has no delivery opportunities")
    if impair.cross is not None:
        reasons.append("cross: netem has no flows of its own")
    if impair.limit_bytes:
        reasons.append("limit in bytes: netem counts packets")
    if impair.packetoverhead and not impair.rate_bps:
        reasons.append("packetoverhead: tc knows it only together with rate")
    return reasons


def netem_words(impair: Impair, seed: int | None = None) -> list[str]:
    """The arguments of netem. Raises ValueError for what tc cannot do."""
    reasons = unsupported(impair)
    if reasons:
        raise ValueError("; ".join(reasons))
    words = ["limit", str(impair.limit)]
    if _has_delay(impair):
        words += ["delay", _time(impair.delay_ns), _time(impair.jitter_ns), _percent(impair.correlation)]
    if _table(impair):
        words += ["distribution", _table(impair)]
    words += _loss_words(impair)
    for key, chance in (("duplicate", impair.duplicate), ("corrupt", impair.corrupt)):
        if chance.fraction:
            words += [key, _percent(chance.fraction), _percent(chance.correlation)]
    if impair.reorder.fraction:
        reorder = impair.reorder
        words += ["reorder", _percent(reorder.fraction), _percent(reorder.correlation)]
        words += ["gap", str(reorder.gap)]
    if impair.rate_bps:
        words += ["rate", f"{impair.rate_bps}bit", str(impair.packetoverhead)]
    return words if seed is None else [*words, "seed", str(seed)]


def add_commands(device: str, impair: Impair, way: str = "up", seed: int | None = None) -> list[Argv]:
    """Commands that put a direction on `device`, which has no qdisc yet; `way`: "up" or "down"."""
    handle = ["handle", "1:"]
    commands = [["tc", "qdisc", "add", "dev", device, "root", *handle, "netem", *netem_words(impair, seed)]]
    if impair.port is not None:
        commands += _port_commands(device, impair.port, PORT_KEYS[way])
    return commands


def clear_commands(device: str) -> list[Argv]:
    """The command that removes everything from `device`; it fails if there is nothing."""
    return [["tc", "qdisc", "del", "dev", device, "root"]]


def update_commands(
    device: str, old: Impair, new: Impair, way: str = "up", seed: int | None = None
) -> list[Argv]:
    """Commands from one direction to another: in place where tc can, so that packets in flight survive."""
    if _can_change(old, new):
        words = netem_words(new, seed)
        return [["tc", "qdisc", "change", "dev", device, "root", "handle", "1:", "netem", *words]]
    return clear_commands(device) + add_commands(device, new, way, seed)


def expected_options(impair: Impair) -> dict[str, Any]:
    """The `options` that `tc -j qdisc show` has for this netem; the distribution is not among them."""
    options: dict[str, Any] = {"limit": impair.limit, "ecn": False, "gap": 0}
    if impair.delay_ns or impair.jitter_ns:
        options["delay"] = {
            "delay": impair.delay_ns / 1e9,
            "jitter": impair.jitter_ns / 1e9,
            "correlation": impair.correlation,
        }
    loss = impair.loss
    if isinstance(loss, GilbertElliott):
        options["loss-gemodel"] = {"p": loss.p, "r": loss.r, "1-h": loss.loss_bad, "1-k": loss.loss_good}
    elif isinstance(loss, FourState):
        names = ("p13", "p31", "p32", "p23", "p14")
        options["loss-state"] = {name: getattr(loss, name) for name in names}
    elif loss.fraction:
        options["loss-random"] = {"loss": loss.fraction, "correlation": loss.correlation}
    for key, chance in (("duplicate", impair.duplicate), ("corrupt", impair.corrupt)):
        if chance.fraction:
            options[key] = {key: chance.fraction, "correlation": chance.correlation}
    if impair.reorder.fraction:
        reorder = impair.reorder
        options["reorder"] = {"reorder": reorder.fraction, "correlation": reorder.correlation}
        options["gap"] = reorder.gap
    if impair.rate_bps:
        cell = {"cellsize": 0, "celloverhead": 0}
        options["rate"] = {"rate": impair.rate_bps / 8, "packetoverhead": impair.packetoverhead, **cell}
    return options


def differences(impair: Impair, shown: Sequence[dict[str, Any]], classes: str = "") -> list[str]:
    """Where `tc -j qdisc show` (and `tc class show`) differ from the request; empty if nowhere."""
    roots = [qdisc for qdisc in shown if qdisc.get("root") and qdisc.get("kind") == "netem"]
    if len(roots) != 1:
        return [f"root: expected one netem, shown are {[qdisc.get('kind') for qdisc in shown]}"]
    found: list[str] = []
    options = {key: value for key, value in roots[0]["options"].items() if key != "seed"}
    _compare("", expected_options(impair), options, found)
    throttled = [qdisc for qdisc in shown if qdisc.get("kind") == "htb"]
    if (impair.port is not None) != bool(throttled):
        found.append(f"port: htb is {'there' if throttled else 'not there'}")
    elif impair.port is not None:
        found += _class_differences(impair.port, classes)
        limits = {qdisc["options"]["limit"] for qdisc in shown if qdisc.get("kind") == "pfifo"}
        if limits != {impair.port.limit}:
            found.append(f"port.limit: {limits} instead of {impair.port.limit}")
    return found


# -- Running --


def run(argv: Argv) -> str:
    """Run one command. Raises OSError with its messages if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def within(namespace: str, commands: Sequence[Argv]) -> list[Argv]:
    """The same `tc` commands for a network namespace."""
    return [[words[0], "-n", namespace, *words[1:]] for words in commands]


def read_back(device: str, namespace: str, runner: Runner = run) -> tuple[list[dict[str, Any]], str]:
    """The qdiscs of `device` as tc's JSON, and its classes as text (6.1 has no JSON for them)."""
    qdiscs, classes = within(
        namespace, [["tc", "-j", "qdisc", "show", "dev", device], ["tc", "class", "show", "dev", device]]
    )
    return json.loads(runner(qdiscs) or "[]"), runner(classes)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The abilities of this machine's kernel and tc; `reason` says why netem is missing."""

    netem: bool
    seed: bool
    reason: str


@cache
def probe() -> Kernel:
    """Try netem in a temporary namespace."""
    attempt = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "limit", "1"]
    try:
        run(attempt)
    except OSError as error:
        return Kernel(False, False, str(error).splitlines()[0])
    try:
        run([*attempt, "seed", "1"])
    except OSError:
        return Kernel(True, False, "")
    return Kernel(True, True, "")


# -- Words --


def _has_delay(impair: Impair) -> bool:
    """Whether to write the delay: always with a correlated duplicate, for its correlation."""
    return bool(impair.delay_ns or impair.jitter_ns or impair.duplicate.correlation)


def _table(impair: Impair) -> str:
    """The distribution to load into the kernel; "" for the uniform one."""
    return impair.distribution if impair.jitter_ns and impair.distribution != "uniform" else ""


def _time(ns: int) -> str:
    return f"{round(ns / 1000)}us"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.10g}%"


def _loss_words(impair: Impair) -> list[str]:
    loss = impair.loss
    if isinstance(loss, GilbertElliott):
        return ["loss", "gemodel", *map(_percent, (loss.p, loss.r, loss.loss_bad, loss.loss_good))]
    if isinstance(loss, FourState):
        steps = (loss.p13, loss.p31, loss.p32, loss.p23, loss.p14)
        return ["loss", "state", *map(_percent, steps)]
    if loss.fraction:
        return ["loss", "random", _percent(loss.fraction), _percent(loss.correlation)]
    return []


def _port_commands(device: str, throttle: PortThrottle, key: str) -> list[Argv]:
    """htb below netem, with a class per port; a class starts with a full bucket, like ours."""
    rate, burst = f"{throttle.rate_bps}bit", str(throttle.burst_bytes)
    on = ["dev", device]
    commands = [["tc", "qdisc", "add", *on, "parent", "1:1", "handle", "10:", "htb", "default", "1"]]
    for number in range(1, PORT_CLASSES + 1):
        minor = f"{number:x}"
        bucket = ["rate", rate, "ceil", rate, "burst", burst, "cburst", burst]
        commands.append(
            ["tc", "class", "add", *on, "parent", "10:", "classid", f"10:{minor}", "htb", *bucket]
        )
        fifo = ["handle", f"{100 + number}:", "pfifo", "limit", str(throttle.limit)]
        commands.append(["tc", "qdisc", "add", *on, "parent", f"10:{minor}", *fifo])
    which = ["flow", "map", "key", key, "and", hex(PORT_CLASSES - 1), "baseclass", "10:1"]
    scope = ["parent", "10:", "protocol", "all", "prio", "1", "handle", "1"]
    return [*commands, ["tc", "filter", "add", *on, *scope, *which]]


def _can_change(old: Impair, new: Impair) -> bool:
    """Whether `change` can do it: it can neither remove a feature nor return to a uniform jitter."""
    gone = (
        old.corrupt.fraction and not new.corrupt.fraction,
        old.reorder.fraction and not new.reorder.fraction,
        old.rate_bps and not new.rate_bps,
        _table(old) and _table(old) != _table(new),
        _has_delay(old) and not _has_delay(new),
        isinstance(old.loss, Chance) != isinstance(new.loss, Chance),
        old.port != new.port,
    )
    return not any(gone)


# -- Comparing --


def _compare(where: str, asked: dict[str, Any], shown: dict[str, Any], found: list[str]) -> None:
    for key in sorted({*asked, *shown}):
        name = f"{where}{key}"
        if key not in shown or key not in asked:
            found.append(f"{name}: {'not shown' if key in asked else f'{shown[key]} was not asked for'}")
        elif isinstance(asked[key], dict):
            _compare(f"{name}.", asked[key], shown[key], found)
        elif not isclose(asked[key], shown[key], rel_tol=1e-6, abs_tol=TICK_S if "delay." in name else 1e-7):
            found.append(f"{name}: {shown[key]} instead of {asked[key]}")


_CLASS = re.compile(r"class htb 10:\w+ .*?\brate (\S+) ceil (\S+) burst (\S+)")
_UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "b": 1, "kb": 1024, "mb": 1024**2}


def _class_differences(throttle: PortThrottle, classes: str) -> list[str]:
    lines = _CLASS.findall(classes)
    found = [] if len(lines) == PORT_CLASSES else [f"port: {len(lines)} classes instead of {PORT_CLASSES}"]
    for rate, ceil, burst in lines:
        asked = (throttle.rate_bps, throttle.rate_bps, throttle.burst_bytes)
        shown = tuple(_amount(text) for text in (rate, ceil, burst))
        # tc keeps the burst as a time at the rate, and returns it rounded.
        if not all(isclose(one, other, rel_tol=0.01) for one, other in zip(asked, shown, strict=True)):
            found.append(f"port: {shown} instead of {asked} (rate, ceil, burst)")
    return sorted(set(found))


def _amount(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([A-Za-z]+)", text)
    return float(match[1]) * _UNITS[match[2].lower()] if match else -1.0
