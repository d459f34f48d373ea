"""Numbers in words, as the log, the status and the command line show them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 link`, `2 links`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def exit_words(code: int) -> str:
    """How a child process ended, from its return code: below 0, a signal ended it (subprocess)."""
    return f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"


def rate(bps: int) -> str:
    """Bits per second with a decimal prefix; 0 is unlimited."""
    if not bps:
        return "no limit"
    value = float(bps)
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if value < 1000:
            return f"{value:.4g} {unit}"
        value /= 1000
    return f"{value:.4g} Gbit/s"


def duration(seconds: float) -> str:
    """`34 s`, `5 min 3 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(number: int) -> str:
    """Bytes with a decimal prefix: `999 B`, `1.2 kB`, `34.5 MB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
