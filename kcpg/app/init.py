"""`kcpg init`: a tunnel from nothing. Makes the key, writes a file for each node, prints an invitation for
each; at the other machines `kcpg init INVITATION` writes that node's file."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kcpg.app import invitation
from kcpg.app.config import load_text
from kcpg.app.config.addresses import host_port, port_list
from kcpg.app.config.model import Role
from kcpg.app.config.values import KEY_BYTES, BadValue
from kcpg.app.invitation import ANY_TARGET, Door, Invitation
from kcpg.errors import EXIT_OK, KcpgError, UsageError

PORTS = "3000-3010"  # Several, so that the client may hop between them
LISTEN = "59000"
SOCKS = 1080  # IANA's port of SOCKS
TARGET = "127.0.0.1:8080"
RELAYS_MAX = 16  # Each adds its round trip; nobody has more


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line. None: not said."""

    server: str | None = None
    ports: str | None = None
    target: str | None = None
    socks: int | None = None
    listen: str | None = None
    relays: tuple[str, ...] | None = None


def make(wish: Wish, directory: Path, *, force: bool, qr: bool | None) -> int:
    """Make a tunnel as wished, asking on the terminal for what was not said. Raises KcpgError."""
    nodes = tunnel(_complete(wish), os.urandom)
    files = dict(_files(nodes))
    _write({directory / name: node for name, node in files.items()}, force)
    for name, node in files.items():
        print(f"wrote {directory / name}: for {_whose(node)}")
    print("\nAt each machine, start its node:   kcpg FILE")
    print("Or take the file there in one line (it holds the key: hand it over like a password):\n")
    for name, node in files.items():
        print(f"# {name}\nkcpg init '{node.line()}'\n")
    picture(nodes[-1], qr)
    return EXIT_OK


def accept(line: str, directory: Path, *, force: bool, qr: bool | None) -> int:
    """Write the file of an invitation. Raises KcpgError."""
    node = invitation.read(line)
    file = directory / f"{node.role.value}.conf"
    _write({file: node}, force)
    print(f"wrote {file}\n")
    print(f"kcpg --try {file}" if node.role is not Role.SERVER else f"kcpg --check-config {file}")
    print(f"kcpg {file}")
    if qr:
        picture(node, qr)
    return EXIT_OK


def tunnel(wish: Wish, entropy: Callable[[int], bytes]) -> list[Invitation]:
    """The nodes, the server first, the client last. `entropy(n)`: n random bytes. Raises UsageError."""
    try:
        return _tunnel(wish, entropy)
    except BadValue as bad:
        raise UsageError(bad.reason, bad.hint or "see kcpg init --help") from None


def _tunnel(wish: Wish, entropy: Callable[[int], bytes]) -> list[Invitation]:
    relays = wish.relays or ()
    if len(relays) > RELAYS_MAX:
        raise BadValue(f"there are {len(relays)} relays; at most {RELAYS_MAX} are useful")
    places = [wish.server or "", *reversed(relays)]
    doors = [_door(place, wish.ports or PORTS, entropy) for place in places]
    target = ANY_TARGET if wish.socks else wish.target or TARGET
    if target != ANY_TARGET:
        target = host_port(target, [])
        if target.rpartition(":")[0] == "" or target.endswith("]"):
            raise BadValue(f"'{target}' has no port", f"for example {TARGET}")
    nodes = [Invitation(Role.SERVER, doors[0], target=target)]
    nodes += [Invitation(Role.RELAY, mine, next=after) for after, mine in itertools.pairwise(doors)]
    if wish.socks:
        return [*nodes, Invitation(Role.CLIENT, doors[-1], socks=wish.socks)]
    (listen,) = port_list(wish.listen or LISTEN, []).numbers[:1] or (0,)
    return [*nodes, Invitation(Role.CLIENT, doors[-1], listen=listen)]


def _door(place: str, ports: str, entropy: Callable[[int], bytes]) -> Door:
    hosts, own_ports = invitation.read_place(place)
    numbers = port_list(own_ports or ports, []).numbers
    if not numbers:
        raise BadValue("a node needs port numbers", f"for example {PORTS}")
    return Door(entropy(KEY_BYTES), hosts, numbers)


def _complete(wish: Wish) -> Wish:
    if wish.server is not None:
        return wish
    if not sys.stdin.isatty():
        raise UsageError(
            "the server's address is missing", "kcpg init --server HOST, or kcpg init INVITATION"
        )
    server = _ask("Address or name of the server's machine, as clients see it", "")
    ports = wish.ports or _ask("UDP ports of the tunnel there", PORTS)
    target, socks, listen = wish.target, wish.socks, wish.listen
    if target is None and socks is None:
        print(
            f"Where do connections go? host:port as the server sees it, or: socks (a proxy at port {SOCKS})"
        )
        answer = _ask("Target", TARGET)
        target, socks = (None, SOCKS) if answer.lower() == "socks" else (answer, None)
    if listen is None and socks is None:
        listen = _ask("Port at the client for applications", LISTEN)
    relays = wish.relays
    if relays is None:
        words = _ask("Relays between them, in order from the client, with blanks between (Enter: none)", "-")
        relays = () if words == "-" else tuple(words.split())
    return Wish(server, ports, target, socks, listen, relays)


def _ask(question: str, default: str) -> str:
    while True:
        shown = f" [{default}]" if default and default != "-" else ""
        try:
            answer = input(f"{question}{shown}: ").strip()
        except EOFError:
            raise UsageError("the input ended", "see kcpg init --help") from None
        if answer or default:
            return answer or default


def _files(nodes: list[Invitation]) -> Iterator[tuple[str, Invitation]]:
    relays = [node for node in nodes if node.role is Role.RELAY]
    for node in nodes:
        # Counted from the client, as on the command line.
        number = f"-{len(relays) - relays.index(node)}" if node in relays and len(relays) > 1 else ""
        yield f"{node.role.value}{number}.conf", node


def _whose(node: Invitation) -> str:
    if node.role is Role.CLIENT:
        return "the client" + (f", SOCKS5 and HTTP proxy at 127.0.0.1:{node.socks}" if node.socks else "")
    return f"{', '.join(node.door.hosts)}, where UDP {invitation.ports_text(node.door.ports)} must get in"


def _write(files: dict[Path, Invitation], force: bool) -> None:
    texts = {file: node.configuration() for file, node in files.items()}
    for file, text in texts.items():
        loaded = load_text(file.name, text)
        if not loaded.ok:
            raise UsageError(f"this makes no configuration: {loaded.errors[0]}")
        if not force and os.path.lexists(file):
            raise UsageError(f"{file} is there already", "name another --directory, or --force")
    for file, text in texts.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _replace(file, text)
        except OSError as error:
            raise KcpgError(f"cannot write {file}: {error.strerror}", "name another --directory") from None


def _replace(file: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.rename(new, file)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def picture(node: Invitation, qr: bool | None) -> None:
    """A QR code of the invitation: if wished, and by default on a terminal."""
    if qr is False or (qr is None and not sys.stdout.isatty()):
        return
    try:
        import segno
    except ImportError:
        print("(no QR code: pip install segno)")
        return
    print(f"For the {node.role.value}, as a QR code:")
    try:
        segno.make(node.line(), error="l", micro=False).terminal(compact=True, border=2)
    except UnicodeEncodeError:
        print("(no QR code: this terminal shows no UTF-8)")
