"""`kcpg user`: who may have links with a node. Changes its file of users, has the node read it, and prints
what the user needs: his file, an invitation, a QR code."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kcpg.app import control, init, instances, invitation, userfile
from kcpg.app.config import load
from kcpg.app.config.addresses import port_list
from kcpg.app.config.lex import LexError, Shape, lines
from kcpg.app.config.model import LegConfig, NodeConfig, Role, Severity, UserConfig
from kcpg.app.config.report import Report
from kcpg.app.config.users import SUFFIX, USER_KEYS, read_text, read_users, users_files
from kcpg.app.config.values import KEY_BYTES, BadValue, short_name
from kcpg.app.invitation import Door, Invitation
from kcpg.errors import EXIT_FAILURE, EXIT_OK, KcpgError, UsageError


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says. Empty or None: not said."""

    name: str = ""
    values: tuple[str, ...] = ()  # `key=value`
    config: Path | None = None
    server: str = ""  # Where users find the node
    listen: int | None = None
    socks: int | None = None
    qr: bool | None = None
    reload: bool = True
    form: str = "text"  # Of a report: text, json or csv


def run(action: str, wish: Wish) -> int:
    """Do it; returns the exit code. Raises KcpgError."""
    if action not in ("show", "usage") and not wish.name:
        raise UsageError("the user's name is missing", f"kcpg user {action} NAME")
    if wish.values and action != "add":
        raise UsageError(f"{action} takes no settings", "edit the file of users, and reload")
    place = _place(wish.config, creates=action == "add")
    done: dict[str, Callable[[_Place, Wish], int]] = {
        "add": _add, "remove": _remove, "rotate": _rotate, "show": _show, "usage": _usage
    }  # fmt: skip
    with userfile.alone(place.users if place.users.is_dir() else place.users.parent):
        return done[action](place, replace(wish, name=wish.name.lower()))


@dataclass(frozen=True, slots=True)
class _Place:
    """The node whose users they are."""

    config: Path
    node: NodeConfig
    users: Path  # File or directory

    @property
    def leg(self) -> LegConfig:
        return self.node.ingress

    def file_of(self, name: str) -> Path:
        """The file with this user's section, or the one that gets it."""
        for file in users_files(self.users):
            if name in userfile.names(userfile.read(file)):
                return file
        return self.users / f"{name}{SUFFIX}" if self.users.is_dir() else self.users

    def user(self, name: str) -> UserConfig:
        """Raises UsageError if there is none."""
        for user in self.leg.users:
            if user.name == name:
                return user
        raise UsageError(f"there is no user {name!r}", f"kcpg user show --config {self.config} shows all")


def _place(config: Path | None, creates: bool) -> _Place:
    file = config or _only_running()
    users = _users_path(file)
    if users is None:
        hint = "users=users.conf and private_key_file= in the file of a server or relay: see docs/users.md"
        raise UsageError(f"{file} has no users", hint)
    if creates and not os.path.lexists(users):
        userfile.write(users, "")
    loaded = load([file])
    if not loaded.ok:
        raise UsageError(str(loaded.errors[0]), f"kcpg --check-config {file}")
    return _Place(file, loaded.nodes[0], users)


def _only_running() -> Path:
    """The only file with users that runs. Raises UsageError."""
    files = [
        Path(name)
        for process in instances.running(os.environ)
        for name in process.files
        if _users_path(Path(name)) is not None
    ]
    if len(files) == 1:
        return files[0]
    what = "no node with users runs" if not files else f"{len(files)} nodes with users run"
    raise UsageError(what, "name its file: --config FILE")


def _users_path(file: Path) -> Path | None:
    """What `users=` in a node's file names. Raises KcpgError."""
    try:
        found = lines(userfile.read(file).encode("utf-8", "surrogateescape"))
    except LexError as error:
        raise KcpgError(f"{file}: {error}") from None
    named = [line.text for line in found if line.shape is Shape.OPTION and line.name == "users" and line.text]
    return file.parent / named[-1] if named else None


# -- what is done --


def _add(place: _Place, wish: Wish) -> int:
    name = _name(wish.name)
    if any(user.name == name for user in place.leg.users):
        raise UsageError(f"there is a user {name!r} already", f"kcpg user rotate {name} gives him a new key")
    values = _values(wish.values)
    file = place.file_of(name)
    text = userfile.read(file)
    private = b""
    if "public_key" not in values:
        where = _where(place, wish)
        private = os.urandom(KEY_BYTES)
        values = {"public_key": _text(_public(private)), **values}
    if wish.server and not place.users.is_dir():
        text = userfile.with_server(text, wish.server)
    _write(file, userfile.added(text, name, values))
    print(f"added {name} to {file}")
    code = _reload(place, wish)
    if private:
        _give(place, name, private, where, wish)
    return code


def _remove(place: _Place, wish: Wish) -> int:
    place.user(wish.name)
    file = place.file_of(wish.name)
    text = userfile.removed(userfile.read(file), wish.name)
    if place.users.is_dir() and not userfile.names(text):
        try:
            file.unlink()
        except OSError as error:
            raise KcpgError(f"cannot remove {file}: {error.strerror}") from None
    else:
        _write(file, text)
    print(f"removed {wish.name} from {file}")
    return _reload(place, wish)


def _rotate(place: _Place, wish: Wish) -> int:
    place.user(wish.name)
    where = _where(place, wish)
    file, private = place.file_of(wish.name), os.urandom(KEY_BYTES)
    text = userfile.changed(userfile.read(file), wish.name, "public_key", _text(_public(private)))
    _write(file, text)
    print(f"gave {wish.name} a new key in {file}: his former one is good for nothing any more")
    code = _reload(place, wish)
    _give(place, wish.name, private, where, wish)
    return code


def _show(place: _Place, wish: Wish) -> int:
    wall_s = int(time.time())
    if not wish.name:
        for user in place.leg.users:
            print(f"{user.name}: {_state(user, wall_s)}")
        return EXIT_OK
    user = place.user(wish.name)
    print(userfile.section(userfile.read(place.file_of(user.name)), user.name), end="")
    print(f"# {_state(user, wall_s)}")
    return EXIT_OK


def _usage(place: _Place, wish: Wish) -> int:
    from kcpg.app import usagereport

    print(usagereport.report(place.config, place.leg.users, wish.name, wish.form, int(time.time())))
    return EXIT_OK


def _state(user: UserConfig, wall_s: int) -> str:
    if user.disabled:
        return "disabled"
    if not user.expires_s:
        return "may have links"
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(user.expires_s))
    return f"may have links until {until}" if wall_s < user.expires_s else f"expired on {until}"


# -- parts --


def _name(name: str) -> str:
    try:
        if name.startswith("."):
            raise BadValue("is not a name", "it begins with a dot")
        return short_name(name, [])
    except BadValue as bad:
        raise UsageError(f"{name!r} {bad.reason}", bad.hint) from None


def _values(words: tuple[str, ...]) -> dict[str, str]:
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key.lower() not in USER_KEYS:
            hint = "a setting is one of " + ", ".join(f"{known}=…" for known in USER_KEYS)
            raise UsageError(f"{word!r} is no setting of a user", hint)
        values[key.lower()] = value
    return values


def _write(file: Path, text: str) -> None:
    """Write it if it is right."""
    report = Report(str(file))
    read_text(text.encode("utf-8", "surrogateescape"), report)
    for problem in report.sorted():
        if problem.severity is Severity.ERROR:
            raise UsageError(problem.unrated)
    userfile.write(file, text)


def _reload(place: _Place, wish: Wish) -> int:
    """Have the process that runs the node read its users; 0 if it does, or none runs."""
    if not wish.reload:
        return EXIT_OK
    found = instances.find(instances.real([place.config]), os.environ)
    if not found:
        print(f"{place.config} does not run now")
        return EXIT_OK
    code = EXIT_OK
    for process in dict.fromkeys(found.values()):
        ok, text = control.reload_one(process)
        print(f"{process.instance.name}: {text}")
        code = code if ok else EXIT_FAILURE
    return code


def _where(place: _Place, wish: Wish) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Hosts and ports at which users find the node. Raises UsageError."""
    said = wish.server or read_users(place.users).server
    if not said:
        hint = "--server HOST or HOST:PORTS; it is kept for the next user"
        raise UsageError("where do users find this node?", hint)
    try:
        hosts, ports = invitation.read_place(said)
        return hosts, port_list(ports, []).numbers if ports else place.leg.ports
    except BadValue as bad:
        raise UsageError(f"{said!r}: {bad.reason}", bad.hint) from None


def _give(
    place: _Place, name: str, private: bytes, where: tuple[tuple[str, ...], tuple[int, ...]], wish: Wish
) -> None:
    """Print what the user needs, which is nowhere else."""
    leg = place.leg
    assert leg.private_key is not None
    door = Door(leg.key or b"", *where, private=private, listener=_public(leg.private_key))
    listen, socks = wish.listen or 0, wish.socks or 0
    if not listen and not socks:
        chooses = place.node.role is Role.SERVER and place.node.egress.any_target
        listen, socks = (0, init.SOCKS) if chooses else (int(init.LISTEN), 0)
    node = Invitation(Role.CLIENT, door, listen=listen, socks=socks, algorithm=leg.algorithm)
    print(f"\n# {name}: his file. The private key is nowhere else: hand it over like a password.")
    print(node.configuration(), end="")
    if leg.password:
        print(f"encryption_password={leg.password.decode('utf-8', 'backslashreplace')}")
        print("\n(no invitation: it cannot hold a password; use encryption_key)")
        return
    print(f"\n# The same in one line\nkcpg init '{node.line()}'\n")
    init.picture(node, wish.qr)


def _public(private: bytes) -> bytes:
    from kcpg.core.native.handshake.noise import PrivateKey

    return PrivateKey(private).public


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")
