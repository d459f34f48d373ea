"""From the text after `=` to a typed value: one function per kind of value.

Each function takes the text of one value and a list to which it appends remarks («read as …»), and returns
the value. It raises BadValue, with a reason and a hint, for a text that is no such value. Neither a remark
nor a reason ever holds the text of a secret.

Numbers are read as kcptube reads them: leading digits count, the rest is ignored, here with a remark. Its
accidents are not repeated: see `docs/configuration.md`.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Callable, Iterable

from kcpg.app.config import presets
from kcpg.app.config.model import Dialect, FecConfig, UdpDelivery
from kcpg.net import UNIX_PATH_MAX_BYTES as PATH_MAX_BYTES

BLANKS = " \t\n\v\f\r"  # C's isspace(): only these characters are trimmed

FWMARK_MAX = 2**32 - 1  # SO_MARK takes 32 bits (socket(7))

DSCP_MAX = 63  # 6 bits (RFC 2474)

DEVICE_MAX = 15  # Characters of an interface's name (IFNAMSIZ - 1)

INT_MAX = 2**31 - 1  # Largest number kcptube's parser takes

BANDWIDTH_MAX_BPS = 2**63 - 1  # Largest rate that fits a signed 64-bit field

PORT_MAX = 65535

TOKEN_CHARACTERS = 16  # Random letters and digits are 2^95 of them; nobody tries so many by HTTP

NAME_CHARS_MAX = 64  # Longer names leave no room for figures in a line of a terminal

WINDOW_MAX_SEGMENTS = 65535  # KCP's header has 16 bits for the window

KEY_BYTES = 32

ALGORITHMS = ("AES-GCM", "AES-OCB", "chacha20", "xchacha20", "XOR", "none")
# Those that only kcptun's protocol has; it has XOR and none as well.
KCPTUN_ALGORITHMS = (
    "aes", "aes-128", "aes-192", "aes-128-gcm", "sm4", "twofish", "blowfish", "cast5", "3des", "tea", "xtea",
    "salsa20", "null",
)  # fmt: skip

_COMMENT = re.compile(rf"[{BLANKS}]+#.*\Z", re.DOTALL)
_NUMBER = re.compile(rf"[{BLANKS}]*([+-]?[0-9]+)(.*)\Z", re.DOTALL)
_HEX = re.compile(r"[+-]?0[xX][0-9a-fA-F]+\Z")
MEMORY_MIN_BYTES = 4 << 20  # Windows of a hundred flows; with less nothing is fast
MEMORY_MAX_BYTES = 1 << 40

_UNITS = {"": 1, "K": 1024, "k": 1000, "M": 1024**2, "m": 1000**2, "G": 1024**3, "g": 1000**3}
_TRUE = ("yes", "true", "1")
_FALSE = ("no", "false", "0")

Remarks = list[str]
ValueParser = Callable[[str, Remarks], object]


class BadValue(ValueError):
    """The text is no value for its key. `reason` and `hint` are shown to the user."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest known word, or an empty text."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean '{by_lower[near[0]]}'?" if near else ""


# What keyboards of Chinese and Japanese give for ASCII (U+FF01 to U+FF5E), the ideographic space and comma.
_WIDE = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20, 0x3001: 0x2C, 0x3002: 0x2E}


def narrow(text: str) -> str:
    """The text with fullwidth punctuation, digits and letters as plain ones."""
    return text.translate(_WIDE)


def uncomment(text: str, remarks: Remarks) -> str:
    """The text without a trailing ` # comment`, with a remark: kcptube's grammar has no such comments."""
    short = _COMMENT.sub("", text)
    if short != text:
        remarks.append(f"a comment must stand on a line of its own; read as '{short}'")
    return short


def free_text(text: str, remarks: Remarks) -> str:
    """Any text; a comment behind it is part of it."""
    if _COMMENT.search(text):
        remarks.append("the value includes '#' and what follows; a comment must stand on a line of its own")
    return text


def word(text: str, remarks: Remarks) -> str:
    """A name or number without blanks."""
    bare = uncomment(text, remarks)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?", bare):
        raise BadValue(f"'{bare}' is neither a name nor a number")
    return bare


def short_name(text: str, remarks: Remarks) -> str:
    """A word that logs and tables can show."""
    name = uncomment(text, remarks)
    if len(name) > NAME_CHARS_MAX or not all(char.isalnum() or char in "-_." for char in name):
        raise BadValue("is not a name", f"at most {NAME_CHARS_MAX} letters, digits and - _ .")
    return name


def secret(text: str, remarks: Remarks) -> bytes:
    """The bytes in the file, whatever its encoding."""
    if any("\udc80" <= char <= "\udcff" for char in text):
        remarks.append("is not UTF-8: the other end needs the same bytes, so save the file as UTF-8 at both")
    return free_text(text, remarks).encode("utf-8", "surrogateescape")


def key_32(text: str, remarks: Remarks) -> bytes:
    """32 bytes in base64."""
    text = _COMMENT.sub("", text)
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise BadValue("is not base64", "kcpg keygen prints a valid key") from None
    if len(raw) != KEY_BYTES:
        raise BadValue(f"has {len(raw)} bytes, not {KEY_BYTES}", "kcpg keygen prints a valid key")
    return raw


def whole_number(text: str, remarks: Remarks) -> int:
    """A decimal number as C reads it: leading digits count, the rest is ignored with a remark."""
    bare = _COMMENT.sub("", text)
    if _HEX.match(bare):
        raise BadValue("hexadecimal numbers are not allowed", f"write {int(bare, 16)}")
    match = _NUMBER.match(bare)
    if match is None:
        raise BadValue(f"'{bare}' is not a number")
    number = _bounded(match[1])
    if bare != text or match[2].strip(BLANKS):
        remarks.append(f"read '{text.strip(BLANKS)}' as {number}")
    return number


def _bounded(digits: str) -> int:
    # The length first: Python refuses to convert texts of more than 4,300 digits.
    if len(digits.lstrip("+-").lstrip("0")) > 10 or abs(number := int(digits)) > INT_MAX:
        raise BadValue("the number is too large", f"the largest is {INT_MAX}")
    return number


def clamped(low: int, high: int) -> Callable[[str, Remarks], int]:
    """A number from low to high; others are clamped."""

    def parse(text: str, remarks: Remarks) -> int:
        number = whole_number(text, remarks)
        nearest = min(max(number, low), high)
        if nearest != number:
            remarks.append(f"{number} is not in {low}-{high}; using {nearest}")
        return nearest

    return parse


def defaulted(low: int, high: int, default: int) -> Callable[[str, Remarks], int]:
    """A number from low to high; 0 and, with a remark, all others mean the default."""

    def parse(text: str, remarks: Remarks) -> int:
        number = whole_number(text, remarks)
        if low <= number <= high:
            return number
        if number != 0:
            remarks.append(f"{number} is not in {low}-{high}; using the default, {default}")
        return default

    return parse


def refresh(text: str, remarks: Remarks) -> int:
    """Seconds between hops: 0, or 20-32767; others are clamped, as kcptube documents."""
    number = whole_number(text, remarks)
    if number < 0:
        raise BadValue("a time cannot be negative", "0 turns hopping off")
    nearest = min(max(number, 20), 32767) if number else 0
    if nearest != number:
        remarks.append(f"{number} is neither 0 nor in 20-32767; using {nearest}")
    return nearest


def within(low: int, high: int) -> Callable[[str, Remarks], int]:
    """A number from low to high; others are errors."""

    def parse(text: str, remarks: Remarks) -> int:
        number = whole_number(text, remarks)
        if not low <= number <= high:
            raise BadValue(f"{number} is not in {low}-{high}")
        return number

    return parse


def processes(high: int) -> Callable[[str, Remarks], int]:
    """A number from 1 to high, or `auto`: the processor cores that this process may use, at most `high`."""
    number = within(1, high)

    def parse(text: str, remarks: Remarks) -> int:
        if uncomment(text, []).strip().lower() == "auto":
            return min(len(os.sched_getaffinity(0)), high)
        return number(text, remarks)

    return parse


def size(low: int, high: int) -> Callable[[str, Remarks], int | None]:
    """A size in bytes from low to high; 0 and less mean unset, as in kcptube."""

    def parse(text: str, remarks: Remarks) -> int | None:
        number = whole_number(text, remarks)
        if number <= 0:
            return None
        if not low <= number <= high:
            raise BadValue(f"{number} is not in {low}-{high}")
        return number

    return parse


def window(text: str, remarks: Remarks) -> int | None:
    """A window in segments; 0 = the preset's."""
    number = whole_number(text, remarks)
    if number < 0:
        raise BadValue("a window cannot be negative")
    if number > WINDOW_MAX_SEGMENTS:
        remarks.append(f"the protocol allows at most {WINDOW_MAX_SEGMENTS} segments; using that")
        return WINDOW_MAX_SEGMENTS
    return number or None


def boolean(text: str, remarks: Remarks) -> bool:
    """yes, true, 1 or no, false, 0, in any case."""
    word = uncomment(text, remarks).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    hint = {"on": "write yes", "off": "write no"}.get(word, "yes, true, 1, no, false or 0")
    raise BadValue(f"'{word}' is neither yes nor no", hint)


def choice(*names: str) -> Callable[[str, Remarks], str]:
    """One of these words, in any case; returned as spelled here."""
    spelled = {name.lower(): name for name in names}

    def parse(text: str, remarks: Remarks) -> str:
        word = uncomment(text, remarks)
        if word.lower() not in spelled:
            raise BadValue(f"unknown value '{word}'", suggest(word, names) or "one of " + ", ".join(names))
        return spelled[word.lower()]

    return parse


algorithm = choice(*ALGORITHMS, *KCPTUN_ALGORITHMS)
_preset = choice(*presets.NAMES)


def preset(text: str, remarks: Remarks) -> str:
    """A preset's name; kcptube's names from before 2023 are understood, with a remark."""
    word = uncomment(text, []).lower()
    if word in presets.OLD_NAMES:
        now = presets.OLD_NAMES[word]
        remarks.append(f"'{word}' is an old name of kcptube's; using {now}, or set kcp=auto at both ends")
        return now
    if word in ("fast", "regular"):
        last = max(name for name in presets.NAMES if name.startswith(word))
        raise BadValue(f"'{word}' needs a number", f"{word}1 to {last}; auto adapts by itself: recommended")
    return _preset(text, remarks)


def dialect(text: str, remarks: Remarks) -> Dialect:
    """The wire protocol."""
    return Dialect(choice(*(member.value for member in Dialect))(text, remarks))


def delivery(text: str, remarks: Remarks) -> UdpDelivery:
    """How packets of UDP flows arrive."""
    return UdpDelivery(choice(*(member.value for member in UdpDelivery))(text, remarks))


def proxy_protocol(text: str, remarks: Remarks) -> bool:
    """Whether the PROXY protocol is used."""
    return choice("off", "v2")(text, remarks) == "v2"


def unix_path(text: str, remarks: Remarks) -> str:
    """The absolute path of a UNIX socket."""
    path = free_text(text, remarks)
    if not path.startswith("/"):
        raise BadValue(f"'{path}' is not an absolute path", "for example /run/app.sock")
    if len(os.fsencode(path)) > PATH_MAX_BYTES:
        raise BadValue(f"the path has more than {PATH_MAX_BYTES} bytes, so no socket can have it")
    return path


# RFC 2474, 2597, 3246, 5865, 8622.
_DSCP_NAMES = {f"CS{n}": 8 * n for n in range(8)} | {"EF": 46, "VA": 44, "LE": 1}
_DSCP_NAMES |= {f"AF{n}{drop}": 8 * n + 2 * drop for n in range(1, 5) for drop in range(1, 4)}


def dscp(text: str, remarks: Remarks) -> int:
    """A code point from 0 to 63, or its name."""
    word = uncomment(text, remarks).upper()
    return _DSCP_NAMES[word] if word in _DSCP_NAMES else within(0, DSCP_MAX)(text, remarks)


def device(text: str, remarks: Remarks) -> str:
    """The name of a network interface."""
    name = uncomment(text, remarks)
    if not 0 < len(name.encode()) <= DEVICE_MAX or "/" in name or any(map(str.isspace, name)):
        raise BadValue(f"'{name}' is not the name of an interface", "ip link shows them, for example eth0")
    return name


def fwmark(text: str, remarks: Remarks) -> int:
    """A number of 32 bits, decimal or, as iptables and ip show it, hexadecimal."""
    word = uncomment(text, remarks)
    number = int(word, 16) if _HEX.match(word) and len(word) <= 10 else -1
    if number < 0 and word.isdecimal() and len(word) <= 10:
        number = int(word)
    if not 0 <= number <= FWMARK_MAX:
        raise BadValue(f"'{word}' is not a mark", f"0-{FWMARK_MAX}, or hexadecimal: 0x1")
    return number


def token(text: str, remarks: Remarks) -> str:
    """What a browser shows once."""
    if not re.fullmatch(rf"[!-~]{{{TOKEN_CHARACTERS},}}", text):
        reason = f"is no token of at least {TOKEN_CHARACTERS} characters without blanks"
        raise BadValue(reason, "kcpg keygen prints one")
    return text


# Values that stay as they are written.
VERBATIM: tuple[ValueParser, ...] = (secret, free_text, unix_path, token)


def memory(text: str, remarks: Remarks) -> int:
    """Bytes: a whole number, then K, M, G (powers of 1024), k, m, g (of 1000) or nothing."""
    bare = uncomment(text, remarks)
    match = re.match(r"([0-9]+)([KMGkmg]?)\Z", bare)
    if match is None:
        raise BadValue(f"'{bare}' is no size of memory", "for example 64M (bytes)")
    size = _bounded(match[1]) * _UNITS[match[2]]
    if not MEMORY_MIN_BYTES <= size <= MEMORY_MAX_BYTES:
        raise BadValue("the memory is not in 4M .. 1024G", "for example 64M (bytes)")
    return size


def bandwidth(text: str, remarks: Remarks) -> int:
    """Bits per second: a whole number, then K, M, G (powers of 1024), k, m, g (of 1000) or nothing."""
    bare = uncomment(text, remarks)
    number_text, digits, unit = _bandwidth_parts(bare)
    bps = _bounded(digits) * _UNITS[unit]
    if bps > BANDWIDTH_MAX_BPS:
        raise BadValue("the bandwidth is too large")
    if number_text:
        remarks.append(f"read '{bare}' as {int(digits)}{unit}, {bps} bit/s")
    return bps


def _bandwidth_parts(bare: str) -> tuple[str, str, str]:
    """(ignored text, digits, unit). kcptube reads the last character as the unit and the leading digits as
    the number."""
    match = re.match(rf"([0-9]+)([.,][0-9]+)?[{BLANKS}]*(.*)\Z", bare, re.DOTALL)
    if match is None:
        raise BadValue(f"'{bare}' is not a bandwidth", "for example 300M (bits per second)")
    digits, fraction, rest = match[1], match[2], match[3]
    unit = rest[-1:]
    if unit not in _UNITS:
        known = rest[0] if rest[0] in _UNITS else ""
        hint = (
            f"write {digits}{known}: bits per second" if known and not fraction else "use K, M, G, k, m or g"
        )
        raise BadValue(f"unknown unit '{rest}'", hint)
    if fraction:
        raise BadValue("a bandwidth must be a whole number", _whole_bandwidth(digits, fraction, unit))
    return rest[:-1], digits, unit


def _whole_bandwidth(digits: str, fraction: str, unit: str) -> str:
    smaller = {"G": "M", "M": "K", "g": "m", "m": "k"}.get(unit)
    if smaller is None or len(digits) + len(fraction) > 15:
        return "use a smaller unit"
    step = 1024 if unit.isupper() else 1000
    whole, rest = divmod(int(digits + fraction[1:]) * step, 10 ** (len(fraction) - 1))
    return "use a smaller unit" if rest else f"write {whole}{smaller}"


def fec(text: str, remarks: Remarks) -> FecConfig | None:
    """`D:R`, `auto`, or None: off, or one of the numbers is 0."""
    bare = uncomment(text, remarks)
    if bare.lower() == "auto":
        return FecConfig(auto=True, data_shards=0, parity_shards=0)
    if bare.lower() == "off":
        return None
    first, colon, second = bare.partition(":")
    if not (colon and first.strip(BLANKS) and second.strip(BLANKS)):
        raise BadValue(f"'{bare}' is not D:R", "for example 20:4; or auto; or off")
    data, parity = whole_number(first, remarks), whole_number(second, remarks)
    if data < 0 or parity < 0:
        raise BadValue("a number of shards cannot be negative")
    # GF(256) has 255 evaluation points; kcptube has the same limit.
    if data + parity > 255:
        raise BadValue(f"{data} + {parity} is more than 255 shards")
    return FecConfig(auto=False, data_shards=data, parity_shards=parity) if data and parity else None
