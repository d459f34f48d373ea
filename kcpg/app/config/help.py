"""The table of keys for a terminal: `kcpg help config` and `kcpg help config KEY`."""

from __future__ import annotations

import textwrap

from kcpg.app.config.keys import KEYS, SECTIONS, Key
from kcpg.app.config.presets import PRESETS
from kcpg.app.config.reference import groups, remarks, where
from kcpg.app.config.values import suggest

WIDTH = 100  # Characters of a line: half of a wide terminal


def describe_all() -> str:
    """Every key with its meaning, under headings."""
    parts = ["One key=value per line; a line that begins with # is a comment. More: kcpg help config KEY", ""]
    for group, keys in groups().items():
        parts.append(group)
        parts.extend(_line(key) for key in keys)
        parts.append("")
    parts.append("Sections")
    parts.extend(f"  [{name}]".ljust(28) + f"mode={mode}" for name, mode in SECTIONS.items())
    return "\n".join(parts)


def describe_key(name: str) -> str | None:
    """All about one key; None if there is no such key."""
    key = KEYS.get(name.strip().lower())
    if key is None:
        return None
    rows = [("values", key.values), ("default", key.default_text), ("where", where(key))]
    rows += [("", text.replace("`", "")) for text in remarks(key)]
    lines = [key.name, *textwrap.wrap(key.meaning, WIDTH, initial_indent="  ", subsequent_indent="  ")]
    lines += [f"  {label:<9}{text}" for label, text in rows]
    if key.name == "kcp":
        lines += _presets()
    return "\n".join(lines)


def nearest_key(name: str) -> str:
    """`did you mean '…'?` for a key that does not exist, or an empty text."""
    return suggest(name, KEYS)


def _line(key: Key) -> str:
    first = f"  {key.name}".ljust(28)
    if len(first) > 28:
        first += " "
    return textwrap.fill(key.meaning, WIDTH, initial_indent=first, subsequent_indent=" " * 28)


def _presets() -> list[str]:
    lines = ["", "  preset    nodelay  interval ms  resend  nc  windows"]
    for name, row in PRESETS.items():
        numbers = f"{row.nodelay:>7}  {row.interval_ms:>11}  {row.resend:>6}"
        lines.append(f"  {name:<10}{numbers}  {int(row.nc):>2}  {row.wnd_segments:>7}")
    return lines
