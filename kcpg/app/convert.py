"""`kcpg convert`: what another tunnel's configuration is here.

Reads kcptun's JSON files and command lines, and kcptube's files. The result is for both ends, which
then speak kcpg's own protocol.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kcpg.app.config import lex, presets
from kcpg.app.config.kcptunfile import ALIASES, DEFAULT_KEY, NAMED, SWITCHES
from kcpg.app.config.keys import KEYS, SECTIONS
from kcpg.app.config.lex import FILE_BYTES_MAX, Line, Shape
from kcpg.errors import UsageError


@dataclass
class Converted:
    """A configuration, and what a person should know about it. Remarks never hold the secret."""

    lines: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The configuration file."""
        return "\n".join(self.lines) + "\n"


def words(given: list[str]) -> Converted:
    """Of a command line of kcptun. Raises UsageError."""
    return _kcptun(_flags(given))


def file(path: Path) -> Converted:
    """Of a file: kcptun's JSON, a script or unit that starts kcptun, or a kcptube's. Raises UsageError."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    return content(data, str(path))


def content(data: bytes, name: str) -> Converted:
    """Of what a file holds. Raises UsageError."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError(f"{name}:{error.lineno}: this is not JSON: {error.msg}") from None
        return _kcptun({str(key).lower(): value for key, value in found.items()})
    try:
        lines = lex.lines(data)
    except lex.LexError as error:
        raise UsageError(f"{name}: {error}") from None
    if any(line.shape is Shape.OPTION and line.name == "mode" for line in lines):
        return _kcptube(text, {line.number: line for line in lines})
    command = _command(text)
    if command is None:
        raise UsageError(
            f"{name} is neither kcptun's JSON or command line nor a kcptube's file",
            "kcpg convert FILE, or kcpg convert -- client -r HOST:PORT …",
        )
    return words(command)


# -- kcptun --

# What has no counterpart because it is not needed, and why.
_NEEDLESS = {
    "mtu": "the path MTU is found",
    "sndwnd": "kcp=auto measures it",
    "rcvwnd": "kcp=auto measures it",
    "mode": "kcp=auto adapts by itself",
    "nodelay": "kcp=auto adapts by itself",
    "interval": "kcp=auto adapts by itself",
    "resend": "kcp=auto adapts by itself",
    "nc": "kcp=auto adapts by itself",
    "acknodelay": "acknowledgements leave at once",
    "datashard": "fec=auto, which comes with kcp=auto, adds what the losses call for",
    "parityshard": "fec=auto, which comes with kcp=auto, adds what the losses call for",
    "sockbuf": "socket buffers are as large as the system allows",
    "smuxver": "flows have a window each",
    "smuxbuf": "flows have a window each",
    "streambuf": "flows have a window each",
    "framesize": "flows have a window each",
    "autoexpire": "a link needs no renewal: its keys and ports change under way",
    "scavengettl": "a link needs no renewal: its keys and ports change under way",
    "closewait": "half-closed connections stay open as long as their ends want",
    "ratelimit": "write outbound_bandwidth=, in bits per second, if you need a limit",
    "snmplog": "kcpg status has the counters",
    "snmpperiod": "kcpg status has the counters",
    "pprof": "kcpg status has the counters",
    "qpp": "AES-GCM needs nothing on top",
    "qpp-count": "AES-GCM needs nothing on top",
    "qppcount": "AES-GCM needs nothing on top",
}
_OTHER_NAMES = ("qppcount",)  # Flags that JSON names otherwise


def _command(text: str) -> list[str] | None:
    """The words after kcptun's program in a script or a unit."""
    joined = text.replace("\\\n", " ")
    match = re.search(
        r"^.*\b(?:client|server)(?:_\w+)?\s+(-.*)$|^.*\bkcptun\S*\s+(-.*)$", joined, re.MULTILINE
    )
    if match is None:
        return None
    program = match[0][: match.start(1 if match[1] else 2) - match.start()].split()[-1]
    try:
        return [program, *shlex.split(match[1] or match[2], comments=True)]
    except ValueError:
        return None


def _flags(given: list[str]) -> dict[str, object]:
    """Go's flags: one dash or two, `-name value` or `-name=value`."""
    found: dict[str, object] = {}
    rest = list(given)
    if rest and not rest[0].startswith("-"):
        program = Path(rest.pop(0)).name
        found["role"] = "server" if "server" in program else "client"
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            if word in ("&", ">", ">>", "2>&1", "|"):  # of the shell: the rest is not kcptun's
                break
            raise UsageError(f"'{word}' is no option of kcptun", "quote values that have blanks")
        name = ALIASES.get(name.lower(), name.lower())
        if name in ("c", "config"):
            raise UsageError(
                "this command line reads a file", f"kcpg convert {value or (rest or ['FILE'])[0]}"
            )
        if name in SWITCHES:
            found[name] = value.lower() not in ("false", "0") if equals else True
        elif equals:
            found[name] = value
        elif rest:
            found[name] = rest.pop(0)
        else:
            raise UsageError(f"-{name} has no value")
    return found


def _kcptun(given: Mapping[str, object]) -> Converted:
    made = Converted()
    role = given.get("role") or ("server" if "target" in given or "listen" in given else "client")
    made.lines = [
        f"# From a configuration of kcptun's {role}. Both ends need kcpg.",
        f"mode={role}",
        "kcp=auto",
    ]
    if role == "server":
        _listen(made, str(given.get("listen") or given.get("localaddr") or ":29900"), "tunnel")
        _target(made, str(given.get("target", "127.0.0.1:12948")))
    else:
        _listen(made, str(given.get("localaddr", ":12948")), "applications")
        _dial(made, str(given.get("remoteaddr", "vps:29900")))
    _secret(made, given)
    for name, value in given.items():
        _setting(made, name, value, role == "server")
    made.remarks.append(
        "kcpg compresses nothing: what is worth it is compressed already, or encrypted"
        if not given.get("nocomp")
        else "kcpg carries UDP as well as TCP, on the same ports"
    )
    return made


def _setting(made: Converted, name: str, value: object, is_server: bool) -> None:
    if name in ("role", "target", "listen", "localaddr", "remoteaddr", "key", "crypt", "nocomp"):
        return
    if name not in NAMED and name not in _OTHER_NAMES:
        made.remarks.append(f"{name} is not known here, and is left out")
        return
    number = int(str(value)) if str(value).lstrip("-").isdecimal() else 0
    if name in _NEEDLESS:
        if value not in (False, 0, "", "0"):
            made.remarks.append(f"{name} is left out: {_NEEDLESS[name]}")
    elif name == "dscp":
        made.lines += [f"dscp={number}"] if number else []
    elif name == "conn":
        made.lines += [f"mux_tunnels={number}"] if number > 1 and not is_server else []
    elif name == "keepalive":
        made.lines += [f"keep_alive={number}"] if number > 0 else []
    elif name == "quiet":
        made.lines += ["log_level=warning"] if value is True else []
    elif name == "log":
        made.remarks.append(f"log: start it with --log-file {value}") if value else None
    elif name == "tcp" and value is True:
        made.remarks.append("tcp: kcpg has no packets that look like TCP; it needs a way for UDP")


def _secret(made: Converted, given: Mapping[str, object]) -> None:
    key, crypt = str(given.get("key", DEFAULT_KEY)), str(given.get("crypt", "aes"))
    if key == DEFAULT_KEY:
        made.remarks.append(
            "key: this is kcptun's default, which everybody knows; set another one at both ends"
        )
    if key.strip() != key or not key.isprintable() or not key:
        made.remarks.append("key: a line cannot hold it; set encryption_password anew at both ends")
    if crypt not in ("aes", "aes-256", "aes-128-gcm"):
        made.remarks.append(f"crypt={crypt} becomes AES-GCM, which also tells forged datagrams")
    made.lines += ["encryption_algorithm=AES-GCM", f"encryption_password={key}"]


def _split(text: str) -> tuple[str, str]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), port


def _listen(made: Converted, text: str, what: str) -> None:
    if text.startswith("/"):
        made.lines.append(f"listen_path={text}")
        return
    host, port = _split(text)
    if host:
        made.lines.append(f"listen_on={host}")
    made.lines.append(f"listen_port={port}")
    if not port:
        made.remarks.append(f"the port for {what} is missing: {text}")


def _dial(made: Converted, text: str) -> None:
    host, port = _split(text)
    made.lines += [f"destination_address={host}", f"destination_port={port}"]


def _target(made: Converted, text: str) -> None:
    if text.startswith("/"):
        made.lines.append(f"destination_path={text}")
    else:
        _dial(made, text)


# -- kcptube --

# Keys that kcp=auto or the protocol makes needless, and why.
_LEFT_OUT = {
    **{name: "kcp=auto adapts by itself" for name in KEYS if name.startswith("kcp_") and name != "kcp_mtu"},
    "kcp_mtu": "the path MTU is found",
    "mtu": "the path MTU is found",
    "fec": "fec=auto, which comes with kcp=auto, adds what the losses call for",
    "blast": "data always leaves at once",
    "fib_ingress": "routing tables of this kind are FreeBSD's; see bind_device and fwmark",
    "fib_egress": "routing tables of this kind are FreeBSD's; see bind_device and fwmark",
}


def _kcptube(text: str, lines: Mapping[int, Line]) -> Converted:
    """The same file, line by line, for kcpg's own protocol."""
    made = Converted(["# From a kcptube's file. Both ends need kcpg."])
    section, has_kcp = "", {"": False}
    for number, raw in enumerate(text.split("\n"), 1):
        line = lines.get(number)
        if line is None:
            made.lines += [raw.strip()] if raw.strip() else []
        elif line.shape is Shape.SECTION:
            section = line.name
            has_kcp[section] = False
            made.lines.append(f"[{line.name}]")
        elif line.shape is Shape.OPTION:
            has_kcp[section] |= line.name == "kcp"
            _kcptube_option(made, line)
        else:
            made.lines.append(raw.strip())
    if not any(has_kcp.values()):
        at = next(i for i, one in enumerate(made.lines) if one.lower().startswith("mode="))
        made.lines.insert(at + 1, "kcp=auto")
    made.remarks.append("to go on with a kcptube at the other end, keep its file and add dialect=kcptube")
    return made


def _kcptube_option(made: Converted, line: Line) -> None:
    name = presets.OLD_KEYS.get(line.name, line.name)
    if name != line.name:
        made.remarks.append(f"line {line.number}: {line.name} is called {name} now")
    key = KEYS.get(name)
    if key is None:
        made.remarks.append(f"line {line.number}: {line.name or 'a line'} is not known here, and is left out")
        return
    if name in _LEFT_OUT:
        made.remarks.append(f"line {line.number}: {name} is left out: {_LEFT_OUT[name]}")
        return
    if name == "kcp":
        made.remarks.append(
            f"line {line.number}: kcp={line.text} becomes kcp=auto, which measures rate and windows"
        )
        made.lines.append("kcp=auto")
        return
    if name == "encryption_algorithm" and line.text.lower() in ("none", "xor"):
        made.remarks.append(f"line {line.number}: {line.text} encrypts nothing; take AES-GCM at both ends")
    made.lines.append(f"{name}={line.text}")


def explain(name: str, problems: Iterable[object], text: str) -> list[str]:
    """What each line of a configuration means, for people; `problems`: what the check says of it."""
    found = [f"{name}, line by line:"]
    for line in lex.lines(text.encode("utf-8", "surrogateescape")):
        key = KEYS.get(line.name) if line.shape is Shape.OPTION else None
        if key is not None:
            shown = "…" if key.secret else line.text
            found.append(f"  {line.number:>3}  {key.name}={shown}: {key.meaning}")
        elif line.shape is Shape.SECTION:
            found.append(f"  {line.number:>3}  [{line.name}]: for mode={SECTIONS.get(line.name, '?')}")
    return [*found, *map(str, problems)]
