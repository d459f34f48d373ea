"""Invitations: a node's whole configuration in one line, to be pasted or scanned at its machine.

`kcpg://KEY@HOST:PORTS/client?listen=59000#CHECK`. KEY is base64url of 32 bytes; for a user of a node with key
pairs it is PRIVATE.PUBLIC, his private key and the node's public one, and .KEY if there is a key besides.
HOST:PORTS is the tunnel's listening end: the next node of a client, the node itself for a server and a relay.
An invitation says a few
harmless things and no more (no paths, no programs), so one from a stranger can do little. CHECK tells a line
that was cut off or mistyped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from kcpg.app.config.addresses import host, host_port, port_list, version
from kcpg.app.config.model import Role
from kcpg.app.config.values import KEY_BYTES, BadValue, algorithm
from kcpg.app.legsettings import ranges
from kcpg.errors import UsageError

SCHEME = "kcpg"
PREFIX = f"{SCHEME}://"

LENGTH_MAX = 2048  # Characters: more than any real one has, and what a QR code still holds

CHECK_BYTES = 3  # 4 characters of base64: one damaged line in 16 million goes unnoticed

STANDARD = "AES-GCM"  # The algorithm of every tunnel that no word says otherwise of

ANY_TARGET = "{}"  # The server's target: the client chooses

_PARAMETERS = {
    Role.CLIENT: frozenset({"listen", "socks", "algorithm"}),
    Role.SERVER: frozenset({"target"}),
    Role.RELAY: frozenset({"next"}),
}


@dataclass(frozen=True, slots=True)
class Door:
    """A tunnel's listening end: its key (32 bytes), where it is found, its UDP ports.

    With key pairs: who dials has `private`, the end is known by its public key `listener`, and `key` may be
    empty.
    """

    key: bytes
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    private: bytes = b""
    listener: bytes = b""

    def __repr__(self) -> str:
        return f"Door({self.hosts}, {self.ports})"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A node. `door`: the end it dials (client) or is (relay, server)."""

    role: Role
    door: Door
    listen: int = 0  # Client: port for applications whose target the server knows; 0 = none
    socks: int = 0  # Client: port for SOCKS5 and HTTP CONNECT; 0 = none
    target: str = ""  # Server: `host:port`, or ANY_TARGET
    next: Door | None = None  # Relay: what it dials
    algorithm: str = STANDARD  # Client: of its tunnel

    def line(self) -> str:
        """The line, with its check."""
        words = []
        if self.listen:
            words.append(f"listen={self.listen}")
        if self.socks:
            words.append(f"socks={self.socks}")
        if self.algorithm != STANDARD:
            words.append(f"algorithm={self.algorithm}")
        if self.target:
            words.append("target=" + quote(self.target, safe=":[]"))
        if self.next is not None:
            words.append("next=" + _door_text(self.next))
        query = "?" + "&".join(words) if words else ""
        body = f"{PREFIX}{_door_text(self.door)}/{self.role.value}{query}"
        return f"{body}#{_check(body)}"

    def configuration(self) -> str:
        """The text of the configuration file."""
        return _TEXTS[self.role](self)


def is_invitation(word: str) -> bool:
    """Whether a word of the command line is one, rather than a file's name."""
    return word[: len(PREFIX)].lower() == PREFIX


def read(text: str) -> Invitation:
    """The node of a line. Raises UsageError that shows nothing of the line: it holds a key."""
    text = "".join(text.split())  # a terminal or a mail broke it
    if len(text) > LENGTH_MAX or not is_invitation(text):
        raise UsageError("this is no invitation", f"it begins with {PREFIX}, and kcpg init prints it")
    body, _, check = text.partition("#")
    if check != _check(body):
        raise UsageError("the invitation is cut off or mistyped", "copy the whole line, in quotes")
    try:
        return _read(body)
    except BadValue as bad:
        raise UsageError(f"the invitation is wrong: {bad.reason}", bad.hint) from None
    except ValueError:
        raise UsageError("the invitation is wrong", "make a new one with kcpg init") from None


def _read(body: str) -> Invitation:
    parts = urlsplit(body)
    role = Role(parts.path.removeprefix("/"))
    given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if unknown := sorted(set(given) - _PARAMETERS[role]):
        raise BadValue(f"a {role.value} has no '{unknown[0]}'", "perhaps a newer kcpg made it")
    target = given.get("target", "")
    made = Invitation(
        role,
        _door(parts.netloc),
        listen=_port(given.get("listen")),
        socks=_port(given.get("socks")),
        target=target if target in ("", ANY_TARGET) else host_port(target, []),
        next=_door(given["next"]) if "next" in given else None,
        algorithm=algorithm(given["algorithm"], []) if "algorithm" in given else STANDARD,
    )
    if role is Role.CLIENT and not (made.listen or made.socks):
        raise BadValue("the client listens nowhere")
    if role is Role.SERVER and not made.target:
        raise BadValue("the server has no target")
    if role is Role.RELAY and made.next is None:
        raise BadValue("the relay has no next node")
    return made


def read_place(text: str) -> tuple[tuple[str, ...], str]:
    """`host`, `host:ports`, `[v6]:ports` or `v6`, several hosts with commas: (hosts, ports as text or "").
    Raises BadValue."""
    head, colon, ports = text.rpartition(":")
    if not colon or "]" in ports or (text.count(":") > 1 and not head.endswith("]") and "," not in head):
        head, ports = text, ""
    hosts = tuple(host(word.strip()) for word in head.split(","))
    return hosts, ports


def _door(text: str) -> Door:
    key, at, place = text.rpartition("@")
    hosts, ports = read_place(place)
    if not at or not ports:
        raise BadValue("a key or a port is missing")
    numbers = port_list(ports, []).numbers
    private, dot, rest = key.partition(".")
    if not dot:
        return Door(_key(key), hosts, numbers)
    listener, dot, key = rest.partition(".")
    return Door(_key(key) if dot else b"", hosts, numbers, _key(private), _key(listener))


def _key(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise BadValue("its key is not base64") from None
    if len(raw) != KEY_BYTES:
        raise BadValue(f"its key has {len(raw)} bytes, not {KEY_BYTES}")
    return raw


def _port(text: str | None) -> int:
    if text is None:
        return 0
    numbers = port_list(text, []).numbers
    if len(numbers) != 1:
        raise BadValue("a client has one port")
    return numbers[0]


def _door_text(door: Door) -> str:
    keys = [door.private, door.listener, door.key] if door.private else [door.key]
    text = ".".join(base64.urlsafe_b64encode(key).decode("ascii").rstrip("=") for key in keys if key)
    return f"{text}@{place(door)}"


def place(door: Door) -> str:
    """`vpn.example.org:3000-3010`, for people and for `read_place`."""
    hosts = ",".join(f"[{name}]" if version(name) == 6 else name for name in door.hosts)
    return f"{hosts}:{ports_text(door.ports)}"


def ports_text(ports: tuple[int, ...]) -> str:
    """As in a configuration: `3000-3010,4000`."""
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges(ports))


def _check(body: str) -> str:
    digest = hashlib.sha256(body.encode("utf-8", "surrogateescape")).digest()[:CHECK_BYTES]
    return base64.urlsafe_b64encode(digest).decode("ascii")


# -- configuration files --


def _secret(door: Door, algorithm: str = STANDARD) -> str:
    keys = {"server_key": door.listener, "private_key": door.private, "encryption_key": door.key}
    text = "".join(f"{name}={base64.b64encode(key).decode('ascii')}\n" for name, key in keys.items() if key)
    return f"encryption_algorithm={algorithm}\n{text}"


def _dial(door: Door, algorithm: str = STANDARD) -> str:
    hosts, secret = ",".join(door.hosts), _secret(door, algorithm)
    return f"destination_address={hosts}\ndestination_port={ports_text(door.ports)}\n{secret}"


def _client(node: Invitation) -> str:
    text = "# For the machine of the applications.\nmode=client\nkcp=auto\n"
    if node.listen:
        text += "# Applications of this machine connect here, by TCP or UDP. Others: listen_on=0.0.0.0,::\n"
        text += f"listen_on=127.0.0.1\nlisten_port={node.listen}\n"
    if node.socks:
        text += f"# A SOCKS5 and HTTP proxy for this machine's programs.\nsocks_port={node.socks}\n"
    return text + _dial(node.door, node.algorithm)


def _server(node: Invitation) -> str:
    ports = ports_text(node.door.ports)
    text = f"# For {', '.join(node.door.hosts)}. Let UDP {ports} in.\nmode=server\nkcp=auto\n"
    text += f"listen_port={ports}\n"
    if node.target == ANY_TARGET:
        text += (
            "# The client chooses the target. Limit that to what it needs: allow_targets=10.0.0.0/8:22\n"
            "destination_port={}\n"
        )
    else:
        name, _, port = node.target.rpartition(":")
        text += (
            f"# What the flows are for.\ndestination_address={name.strip('[]')}\ndestination_port={port}\n"
        )
    return text + _secret(node.door)


def _relay(node: Invitation) -> str:
    assert node.next is not None
    ports = ports_text(node.door.ports)
    return (
        f"# For {', '.join(node.door.hosts)}. Let UDP {ports} in.\nmode=relay\nkcp=auto\n"
        f"[listener]\nlisten_port={ports}\n{_secret(node.door)}"
        f"[forwarder]\n{_dial(node.next)}"
    )


_TEXTS = {Role.CLIENT: _client, Role.SERVER: _server, Role.RELAY: _relay}
