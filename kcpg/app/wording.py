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


def brief(value: float) -> str:
    """Three digits and a decimal prefix, for tables: `0`, `940k`, `12.3M`, `1.25G`."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5 or unit == "T":
            break
        value /= 1000
    digits = 0 if value >= 99.95 or unit == "" else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{unit}"


def age(seconds: float) -> str:
    """One unit, for tables: `0.3s`, `12s`, `5m`, `2h`, `3d`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m"
    return f"{seconds // 3600:.0f}h" if seconds < 86400 else f"{seconds // 86400:.0f}d"


def share(part: float) -> str:
    """A share from 0.0 to 1.0 in per cent: `0`, `0.3%`, `12%`."""
    return "0" if part <= 0 else f"{part * 100:.1f}%" if part < 0.0995 else f"{part * 100:.0f}%"


def size(number: int) -> str:
    """Bytes with a decimal prefix: `999 B`, `1.2 kB`, `34.5 MB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
