"""A client without a file: `kcpg INVITATION -L 8080:intranet:80 -D 1080`, in the manner of ssh."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kcpg.app import invitation
from kcpg.app.config import load_text
from kcpg.app.config.addresses import version
from kcpg.app.config.model import Role
from kcpg.errors import UsageError

_LOOPBACK = "127.0.0.1"  # Where -L and -D listen unless told otherwise, as ssh's do
_EVERYWHERE = ("*", "")


@contextlib.contextmanager
def file(line: str, forwards: list[str], proxies: list[str]) -> Iterator[Path]:
    """A configuration file for this client, that only this user can read, and that is gone afterwards.
    `forwards`: values of -L, `proxies`: of -D. Raises UsageError."""
    text = configuration(line, forwards, proxies)
    with tempfile.TemporaryDirectory(prefix="kcpg-") as directory:  # mode 0700
        path = Path(directory) / "client.conf"
        path.write_text(text, encoding="utf-8")
        yield path


def configuration(line: str, forwards: list[str], proxies: list[str]) -> str:
    """The text of that file. Without -L and -D, the invitation's own port. Raises UsageError."""
    node = invitation.read(line)
    if node.role is not Role.CLIENT:
        raise UsageError(f"this invites a {node.role.value}, not a client", "write its file with kcpg init")
    if not forwards and not proxies:
        return node.configuration()
    if len(proxies) > 1:
        raise UsageError("-D may stand once", "one proxy is enough for all programs")
    keys, mappings, binds = [], [], set()
    for word in forwards:
        bind, parts = _split(word)
        if len(parts) == 1:
            keys.append(f"listen_port={parts[0]}")
            binds.add(bind)
        elif len(parts) == 3:
            mappings.append(f"{_side(bind)}:{parts[0]} -> {_side(parts[1])}:{parts[2]}")
        else:
            raise UsageError(f"-L {word} is none", "-L [address:]port:host:port, or -L port")
    for word in proxies:
        bind, parts = _split(word)
        if len(parts) != 1:
            raise UsageError(f"-D {word} is none", "-D [address:]port")
        keys.append(f"socks_port={parts[0]}")
        binds.add(bind)
    if len(binds) > 1:
        raise UsageError("-L port and -D listen at one address", f"here are {' and '.join(sorted(binds))}")
    if mappings:
        keys.append("listen_port={}")
    keys += [f"listen_on={'0.0.0.0,::' if bind in _EVERYWHERE else bind}" for bind in binds]
    text = replace(node, listen=0, socks=0).configuration() + "\n".join(keys) + "\n"
    if mappings:
        text += "[custom_input]\n" + "\n".join(mappings) + "\n"
    loaded = load_text("the command line", text)
    if not loaded.ok:
        raise UsageError(loaded.errors[0].reason, loaded.errors[0].hint or "see kcpg --help")
    return text


def _split(word: str) -> tuple[str, list[str]]:
    """(where to listen, the other parts) of a value of -L or -D; addresses in brackets are one part."""
    parts: list[str] = []
    rest = word
    while rest:
        if rest.startswith("["):
            part, _, rest = rest[1:].partition("]")
            rest = rest.removeprefix(":")
        else:
            part, _, rest = rest.partition(":")
        parts.append(part)
    if len(parts) in (2, 4):
        return parts[0], parts[1:]
    return _LOOPBACK, parts


def _side(host: str) -> str:
    return "" if host in _EVERYWHERE else f"[{host}]" if version(host) == 6 else host
