"""Writes a profile as TOML, to pass a changed one to another process or keep it beside a report."""

from __future__ import annotations

import json

from netem.profile import Chance, FourState, GilbertElliott, Impair, Profile
from netem.timeline import Step
from netem.trace import Trace, TraceFile


def to_toml(profile: Profile) -> str:
    """Text that `netem.profile.parse` reads back as the same profile (percentages to twelve digits)."""
    lines = [
        f"name = {json.dumps(profile.name)}",
        f"summary = {json.dumps(profile.summary)}",
        f"sources = {json.dumps(profile.sources)}",
    ]
    for key, impair in (("up", profile.up), ("down", profile.down)):
        lines += ["", f"[{key}]", *_lines(impair)]
    outage = profile.up.outage
    if outage is not None:
        lines += ["", "[outage]", f'on = "{outage.on_ns}ns"', f'off = "{outage.off_ns}ns"']
    return "\n".join(lines) + "\n"


def _lines(impair: Impair) -> list[str]:
    lines = [
        f'delay = "{impair.delay_ns}ns"',
        f'jitter = "{impair.jitter_ns}ns"',
        f"correlation = {_percent(impair.correlation)}",
        f'distribution = "{impair.distribution}"',
        f"loss = {_loss(impair.loss)}",
        f"duplicate = {{ {_chance(impair.duplicate)} }}",
        f"corrupt = {{ {_chance(impair.corrupt)} }}",
        f"packetoverhead = {impair.packetoverhead}",
        f'limit = "{impair.limit_bytes}b"' if impair.limit_bytes else f"limit = {impair.limit}",
        f"droplist = {json.dumps(impair.droplist)}",
    ]
    if impair.reorder.fraction:
        reorder = impair.reorder
        chance = _chance(Chance(reorder.fraction, reorder.correlation))
        lines.append(f"reorder = {{ {chance}, gap = {reorder.gap} }}")
    if impair.rate_bps:
        lines.append(f'rate = "{impair.rate_bps}bit"')
    if impair.trace is not None:
        lines.append(f"trace = {{ {_trace(impair.trace)} }}")
    if impair.steps:
        lines.append(f"steps = [{', '.join(map(_step, impair.steps))}]")
        lines.append(f'steps_every = "{impair.steps_every_ns}ns"')
    if impair.swing is not None:
        lines.append(
            f'swing = {{ delay = "{impair.swing.delay_ns}ns", period = "{impair.swing.period_ns}ns" }}'
        )
    if impair.police is not None:
        police = impair.police
        lines.append(f'police = {{ rate = "{police.rate_bps}bit", burst = "{police.burst_bytes}b" }}')
    if impair.cross is not None:
        cross = impair.cross
        lines.append(f'cross = {{ cubic = {cross.cubic}, bbr = {cross.bbr}, rtt = "{cross.rtt_ns}ns" }}')
    if impair.port is not None:
        port = impair.port
        bucket = f'rate = "{port.rate_bps}bit", burst = "{port.burst_bytes}b", limit = {port.limit}'
        lines.append(f"port = {{ {bucket} }}")
    return lines


def _step(step: Step) -> str:
    pairs = [f'at = "{step.at_ns}ns"']
    pairs += [] if step.rate_bps is None else [f'rate = "{step.rate_bps}bit"']
    pairs += [] if step.delay_ns is None else [f'delay = "{step.delay_ns}ns"']
    return f"{{ {', '.join(pairs)} }}"


def _trace(trace: Trace) -> str:
    if isinstance(trace, TraceFile):
        return f"file = {json.dumps(trace.path)}"
    times = {"memory": trace.memory_ns, "outage": trace.outage_ns, "every": trace.every_ns}
    pairs = [f'{key} = "{value}ns"' for key, value in {**times, "length": trace.length_ns}.items()]
    pairs += [f'mean = "{trace.mean_bps}bit"', f"spread = {_percent(trace.spread)}", f"seed = {trace.seed}"]
    return ", ".join(pairs)


def _loss(loss: Chance | GilbertElliott | FourState) -> str:
    if isinstance(loss, GilbertElliott):
        values = {"p": loss.p, "r": loss.r, "1-h": loss.loss_bad, "1-k": loss.loss_good}
        return _table("gemodel", values)
    if isinstance(loss, FourState):
        return _table("state", {name: getattr(loss, name) for name in ("p13", "p31", "p32", "p23", "p14")})
    return f'{{ model = "random", {_chance(loss)} }}'


def _table(model: str, values: dict[str, float]) -> str:
    pairs = ", ".join(f"{key} = {_percent(value)}" for key, value in values.items())
    return f'{{ model = "{model}", {pairs} }}'


def _chance(chance: Chance) -> str:
    return f"percent = {_percent(chance.fraction)}, correlation = {_percent(chance.correlation)}"


def _percent(fraction: float) -> str:
    return f'"{fraction * 100:.12f}%"'
