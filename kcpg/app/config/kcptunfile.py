"""kcptun's own configuration files, JSON, as the text of one of ours; its flags, as JSON names them.

Every flag of kcptun has a line here: a key of ours, nothing because it needs none, or a reason why it cannot
be. An unknown key is an error, as everywhere; kcptun ignores it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kcpg.app.config.report import Report
from kcpg.app.config.values import suggest

# kcptun's default, which anybody knows; `KCPTUN_KEY` in the environment replaces it.
DEFAULT_KEY = "it's a secrect"

# nodelay, interval, resend, nc; `manual` takes the keys of these names.
MODES = {
    "normal": (0, 40, 2, 1),
    "fast": (0, 30, 2, 1),
    "fast2": (1, 20, 2, 1),
    "fast3": (1, 10, 2, 1),
}
MANUAL = {"nodelay": 0, "interval": 50, "resend": 0, "nc": 0}
INTERVAL_MS = (10, 5000)  # Others are clamped
WINDOWS = {"client": (128, 512), "server": (1024, 1024)}  # sndwnd, rcvwnd
SHARDS = (10, 3)
REFRESH_S = (20, 32_767)  # The range of dport_refresh

_ADDRESS = re.compile(r"(.*):([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")
_ROLES = {"remoteaddr": "client", "localaddr": "client", "listen": "server", "target": "server"}

# What needs no key here, or has none, and what to say of it if it is set.
_NOTHING = {
    "acknodelay": "",
    "sockbuf": "",
    "closewait": "has no effect: kcpg passes an end on as soon as no data can be lost by it",
    "snmplog": "has no effect: kcpg status has the counters",
    "snmpperiod": "",
    "pprof": "has no effect",
    "log": "has no effect: use --log-file",
    "qpp-count": "",
}
_NEVER = {
    "qpp": "QPP is not supported: its pads are the same for every flow, so it hides nothing",
    "tcp": "tcp is not supported: kcpg forges no TCP segments",
}
INTEGERS = frozenset(
    [
        "conn",
        "autoexpire",
        "scavengettl",
        "mtu",
        "sndwnd",
        "rcvwnd",
        "datashard",
        "parityshard",
        "dscp",
        "nodelay",
        "interval",
        "resend",
        "nc",
        "sockbuf",
        "smuxver",
        "smuxbuf",
        "streambuf",
        "framesize",
        "keepalive",
        "closewait",
        "ratelimit",
        "snmpperiod",
        "qpp-count",
    ]
)
SWITCHES = frozenset(("nocomp", "acknodelay", "pprof", "quiet", "tcp", "qpp"))
_TEXTS = frozenset(("localaddr", "remoteaddr", "listen", "target", "key", "crypt", "mode", "log", "snmplog"))
NAMED = INTEGERS | SWITCHES | _TEXTS
ALIASES = {"l": "localaddr", "r": "remoteaddr", "t": "target", "ds": "datashard", "ps": "parityshard"}


@dataclass(frozen=True, slots=True)
class Translated:
    """`text` in our form; `lines`: for each of its lines that of the JSON key it comes from (0: none)."""

    text: str
    lines: Mapping[int, int]


def is_json(data: bytes) -> bool:
    """Whether a file is JSON, and so kcptun's: none of ours begins with a brace."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def translate(data: bytes, report: Report) -> Translated:
    """The same node in our form; what is wrong is reported, with lines of the JSON text."""
    try:
        text = data.decode("utf-8-sig")
        found = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
        report.error(
            line, "", "begins with '{' and is not JSON", "kcptun's files are JSON; kcpg's are key=value"
        )
        return Translated("", {})
    file = _File(text, found if isinstance(found, dict) else {}, report)
    return file.translated()


def _integer(text: str) -> int | float:
    return int(text) if len(text) < 20 else float("inf")


class _File:
    """One file, while it is translated."""

    def __init__(self, text: str, found: dict[str, object], report: Report) -> None:
        self._text = text
        self._report = report
        self._out: list[tuple[str, int]] = []
        self._options: dict[str, object] = {}
        for name, value in found.items():
            if self._is_known(name, value):
                self._options[name] = value

    def translated(self) -> Translated:
        """The text."""
        roles = sorted({_ROLES[name] for name in self._options if name in _ROLES})
        if len(roles) != 1:
            reason = "a client's file has remoteaddr, a server's listen or target; this one has " + (
                "both" if roles else "none of them"
            )
            self._report.error(0, "", reason)
            return Translated("", {})
        self._say("mode", roles[0])
        self._say("dialect", "kcptun")
        (self._client if roles[0] == "client" else self._server)()
        self._secret()
        self._retransmission(roles[0])
        self._rest(roles[0])
        text = "".join(f"{line}\n" for line, _ in self._out)
        return Translated(text, {number: line for number, (_, line) in enumerate(self._out, 1)})

    def _is_known(self, name: str, value: object) -> bool:
        line = self._line(name)
        if name not in NAMED:
            self._report.error(line, _printed(name), "unknown key", suggest(name, NAMED))
            return False
        kind: type | tuple[type, ...] = bool if name in SWITCHES else int if name in INTEGERS else str
        if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):  # type: ignore[operator]
            words = {bool: "true or false", int: "a number from 0", str: "a text in quotes"}
            self._report.error(line, name, f"must be {words[kind]}")  # type: ignore[index]
            return False
        if isinstance(value, str) and not value.isprintable():
            hint = "use kcpg's own form, with encryption_password_file" if name == "key" else ""
            self._report.error(line, name, "has characters that a line cannot have", hint)
            return False
        if name in _NEVER and value:
            self._report.error(line, name, _NEVER[name], "switch it off at both ends")
            return False
        if _NOTHING.get(name) and value:
            self._report.warning(line, name, _NOTHING[name])
        return True

    def _line(self, name: str) -> int:
        at = self._text.find(json.dumps(name))
        return self._text.count("\n", 0, at) + 1 if at >= 0 else 0

    def _say(self, key: str, value: object, name: str = "") -> None:
        self._out.append((f"{key}={value}", self._line(name) if name else 0))

    def _number(self, name: str, default: int) -> int:
        value = self._options.get(name, default)
        assert isinstance(value, int)
        return value

    def _words(self, name: str, default: str) -> str:
        value = self._options.get(name, default)
        assert isinstance(value, str)
        return value

    # -- the lines --

    def _client(self) -> None:
        self._place("localaddr", ":12948", "listen_on", "listen_port")
        self._place("remoteaddr", "vps:29900", "destination_address", "destination_port")

    def _server(self) -> None:
        self._place("listen", ":29900", "listen_on", "listen_port")
        self._place("target", "127.0.0.1:12948", "destination_address", "destination_port")

    def _place(self, name: str, default: str, address: str, port: str) -> None:
        text = self._words(name, default)
        match = _ADDRESS.match(text)
        if match is None:
            reason = "must be host:port" + (" (sockets of files are not supported)" if "/" in text else "")
            self._report.error(self._line(name), name, reason)
            return
        host, low, high = match.groups()
        if host:
            self._say(address, host, name)
        elif address == "destination_address":
            self._say(address, "127.0.0.1", name)
        self._say(port, f"{low}-{high}" if high else low, name)

    def _secret(self) -> None:
        crypt = self._words("crypt", "aes")
        self._say("encryption_algorithm", crypt, "crypt")
        key = self._words("key", os.environ.get("KCPTUN_KEY", DEFAULT_KEY))
        if key == DEFAULT_KEY:
            reason = (
                "is not set: kcptun's default is no secret" if "key" not in self._options else "is no secret"
            )
            self._report.warning(self._line("key"), "key", reason, "set another one at both ends")
        if key != key.strip():
            hint = "use kcpg's own form, with encryption_password_file"
            self._report.error(self._line("key"), "key", "begins or ends with a blank", hint)
            return
        self._say("encryption_password", key, "key")

    def _retransmission(self, role: str) -> None:
        mode = self._words("mode", "fast")
        if mode not in (*MODES, "manual"):
            hint = suggest(mode, (*MODES, "manual"))
            self._report.error(self._line("mode"), "mode", f"unknown mode '{_printed(mode)}'", hint)
            return
        numbers = MODES.get(mode) or tuple(self._number(name, value) for name, value in MANUAL.items())
        self._say("kcp", "manual", "mode")
        self._say("kcp_nodelay", min(numbers[0], 2), "nodelay")
        self._say("kcp_interval", min(max(numbers[1], INTERVAL_MS[0]), INTERVAL_MS[1]), "interval")
        self._say("kcp_resend", numbers[2], "resend")
        self._say("kcp_nc", "yes" if numbers[3] else "no", "nc")
        for name, key, default in zip(
            ("sndwnd", "rcvwnd"), ("kcp_sndwnd", "kcp_rcvwnd"), WINDOWS[role], strict=True
        ):
            self._say(key, self._number(name, default), name)

    def _rest(self, role: str) -> None:
        shards = self._number("datashard", SHARDS[0]), self._number("parityshard", SHARDS[1])
        self._say("fec", "{}:{}".format(*shards) if all(shards) else "off", "datashard")
        self._same("mtu", "kcp_mtu", 1350)
        for name in ("smuxbuf", "streambuf", "framesize"):
            self._same(name, name)
        self._same("keepalive", "keep_alive")
        self._same("dscp", "dscp")
        self._same("ratelimit", "outbound_bandwidth", make=lambda rate: 8 * rate)
        if self._options.get("quiet"):
            self._say("log_level", "warning", "quiet")
        if role == "server":
            return
        self._same("conn", "mux_tunnels", 1)
        if "smuxver" not in self._options:
            reason = "is not set: using 1, the default of kcptun until November 2025; later ones have 2"
            self._report.note(0, "smuxver", reason, "set it as at the server")
        self._same("smuxver", "smuxver")
        self._say("nocomp", "yes" if self._options.get("nocomp") else "no", "nocomp")
        refresh = self._number("autoexpire", 0)
        self._say("dport_refresh", refresh and min(max(refresh, REFRESH_S[0]), REFRESH_S[1]), "autoexpire")
        self._same("scavengettl", "scavengettl", make=lambda seconds: max(seconds, 1))

    def _same(
        self,
        name: str,
        key: str,
        default: int | None = None,
        make: Callable[[int], int] = lambda value: value,
    ) -> None:
        if default is None and name not in self._options:
            return
        self._say(key, make(self._number(name, default or 0)), name)


def _printed(text: str) -> str:
    return text if text.isprintable() and len(text) < 40 else "…"
