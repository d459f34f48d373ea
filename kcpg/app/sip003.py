"""Started by shadowsocks as its plug-in (SIP003): what the environment says, as one of kcptun's files.

SS_LOCAL_HOST, SS_LOCAL_PORT     where shadowsocks connects to (a client), or listens (a server)
SS_REMOTE_HOST, SS_REMOTE_PORT   the server's address, which a server listens on
SS_PLUGIN_OPTIONS                key=value;key=value, in kcptun's words; a backslash escapes; `server`
alone: one
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from kcpg.app.config.kcptunfile import INTEGERS
from kcpg.app.paths import state_directory
from kcpg.errors import UsageError

VARIABLES = ("SS_REMOTE_HOST", "SS_REMOTE_PORT", "SS_LOCAL_HOST", "SS_LOCAL_PORT")


def is_plugin(environ: Mapping[str, str]) -> bool:
    """Whether shadowsocks started this process."""
    return all(environ.get(name) for name in VARIABLES)


def write_file(environ: Mapping[str, str]) -> Path:
    """The configuration, in a file that only this user can read. Raises KcpgError."""
    options = options_of(environ)
    port = environ["SS_LOCAL_PORT"] if "remoteaddr" in options else environ["SS_REMOTE_PORT"]
    if not port.isascii() or not port.isdigit():
        raise UsageError(f"SS_LOCAL_PORT and SS_REMOTE_PORT must be port numbers, not {port!r}")
    path = state_directory(environ) / f"sip003-{port}.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(options, file, indent=1)
    return path


def options_of(environ: Mapping[str, str]) -> dict[str, object]:
    """The content of such a file."""
    options: dict[str, object] = {}
    for name, value in _pairs(environ.get("SS_PLUGIN_OPTIONS", "")):
        if value is None or value in ("true", "false"):
            options[name] = value != "false"
        else:
            options[name] = int(value) if name in INTEGERS and value.isascii() and value.isdigit() else value
    local, remote = (_place(environ, side) for side in ("LOCAL", "REMOTE"))
    if options.pop("server", False):
        return options | {"listen": remote, "target": local}
    return options | {"localaddr": local, "remoteaddr": remote}


def _place(environ: Mapping[str, str], side: str) -> str:
    host, port = environ[f"SS_{side}_HOST"], environ[f"SS_{side}_PORT"]
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _pairs(text: str) -> list[tuple[str, str | None]]:
    """Names and values; None: a name alone."""
    found: list[list[str]] = [[""]]
    escaped = False
    for char in text:
        if escaped or char not in "\\;=":
            found[-1][-1] += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ";":
            found.append([""])
        elif len(found[-1]) == 1:
            found[-1].append("")
        else:
            found[-1][-1] += char
    return [(pair[0], pair[1] if len(pair) > 1 else None) for pair in found if pair[0]]
