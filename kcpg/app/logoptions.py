"""How and where a process logs, as the command line says it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FORMATS = ("text", "json")

# A log file rotates at this size: about 40,000 lines, a week of a busy node, which any editor still opens.
ROTATE_BYTES = 4 << 20

# Old files kept beside the current one: with ROTATE_BYTES, a daemon never uses more than 20 MiB.
ROTATE_KEEP = 4


class LogOptions(NamedTuple):
    """The format and the destination of a process's lines."""

    form: str = "text"  # `text` or `json`
    file: Path | None = None  # A rotating file instead of stderr
    rotate_bytes: int = ROTATE_BYTES
    rotate_keep: int = ROTATE_KEEP
