"""What the values of a file mean together: overrides in a relay, required keys, contradictions.

Every check runs, whatever the others find.
"""

from __future__ import annotations

import os
from functools import partial

from kcpg.app.config import presets
from kcpg.app.config.addresses import nowhere, version
from kcpg.app.config.dialect import check_dialect, check_workers, is_kcptun
from kcpg.app.config.exposure import check_audience, check_secrets, check_web
from kcpg.app.config.keypairs import check_pair, has_pair
from kcpg.app.config.keys import KEYS, Scope
from kcpg.app.config.model import Role
from kcpg.app.config.passwords import keep_secret, read_password
from kcpg.app.config.raw import Options, RawFile
from kcpg.app.config.report import Report
from kcpg.app.privileges import identity

SECRETS = ("encryption_key", "encryption_password", "encryption_password_file")
WEAK = ("none", "XOR", "null")
_MANUAL = ("kcp_nodelay", "kcp_interval", "kcp_resend", "kcp_nc")
_FAMILY = {"ipv4_only": 4, "ipv6_only": 6}


def check(raw: RawFile, report: Report) -> None:
    """Check one file, and merge a relay's sections with the keys outside of them."""
    if raw.role is Role.RELAY:
        _check_relay(raw, report)
    elif raw.role is Role.CLIENT:
        _check_tunnel(raw, raw.outside, False, report)
        _check_client_listen(raw, report)
        check_audience(raw, report)
        _check_dial(raw.outside, report)
    elif raw.role is Role.SERVER:
        _check_tunnel(raw, raw.outside, True, report)
        _check_tunnel_listen(raw.outside, "", report)
        _check_target(raw.outside, report)
    check_workers(raw, report)
    _check_log_path(raw.outside, report)
    _check_user(raw.outside, report)
    check_web(raw, report)
    _note_pending(raw, report)


# -- Relays --


def _check_relay(raw: RawFile, report: Report) -> None:
    for name, section in (("listener", raw.listener), ("forwarder", raw.forwarder)):
        if section is None:
            report.error(0, f"[{name}]", "the section is missing", "a relay needs [listener] and [forwarder]")
    if raw.listener is not None:
        _override(raw.listener, raw.outside, Scope.LISTENER, report)
        _check_tunnel(raw, raw.listener, True, report)
        _check_tunnel_listen(raw.listener, "[listener] ", report)
    if raw.forwarder is not None:
        _override(raw.forwarder, raw.outside, Scope.FORWARDER, report)
        _check_tunnel(raw, raw.forwarder, False, report)
        _check_dial(raw.forwarder, report)


def _override(section: Options, outside: Options, scope: Scope, report: Report) -> None:
    """Keys outside the sections override those inside; `ipv4_only` and `ipv6_only` only with a yes."""
    for name, line in outside.bad.items():
        if scope in KEYS[name].scopes and name not in section.settings:
            section.put_bad(name, line)
    for name, setting in outside.settings.items():
        if scope not in KEYS[name].scopes or (name in _FAMILY and setting.value is not True):
            continue
        inner = section.settings.get(name)
        if inner is not None and inner.value != setting.value:
            if name == "encryption_algorithm" and setting.value in WEAK and inner.value not in WEAK:
                reason = (
                    f"outside the sections, it turns off the encryption of [{scope.value}], line {inner.line}"
                )
                report.error(setting.line, name, reason, "remove one of the two lines")
            else:
                reason = f"line {setting.line}, outside the sections, overrides it"
                report.warning(inner.line, name, reason, "remove one of the two lines")
        section.put(name, setting.value, setting.line)


# -- Any tunnel leg --


def _check_tunnel(raw: RawFile, options: Options, listens: bool, report: Report) -> None:
    check_dialect(options, report)
    check_pair(raw, options, listens, report)
    _check_encryption(raw, options, report)
    _check_kcp(options, report)
    _check_families(options, report)
    if options.get("mtu", int) and options.get("kcp_mtu", int):
        report.warning(
            options.line("mtu"),
            "mtu",
            f"has no effect: kcp_mtu in line {options.line('kcp_mtu')} takes precedence",
        )


def _check_encryption(raw: RawFile, options: Options, report: Report) -> None:
    given = [name for name in SECRETS if options.given(name)]
    for name in given[1:]:
        reason = f"conflicts with {given[0]} in line {options.line(given[0])}"
        report.error(options.line(name), name, reason, "keep one of them")
    keep_secret(options, report, "encryption_password_file", raw.passwords, partial(read_password, raw.base))
    check_secrets(raw, options, report)
    algorithm = options.get("encryption_algorithm", str)
    given += ["private_key"] if not given and has_pair(options) else []
    strong = "aes" if is_kcptun(options) else "AES-GCM"
    line = options.line("encryption_algorithm")
    if algorithm in WEAK:
        reason = f"'{algorithm}' encrypts nothing: anyone on the path can read and change the traffic"
        report.warning(line, "encryption_algorithm", reason, f"use {strong} with a password")
    elif algorithm is not None and not given:
        reason = f"{algorithm} needs a secret"
        hint = "set encryption_password, encryption_password_file, encryption_key or private_key_file"
        report.error(line, "encryption_algorithm", reason, hint)
    elif not options.given("encryption_algorithm") and given:
        line = options.line(given[0]) or options.line("private_key_file")
        report.note(line, given[0], f"encryption_algorithm is not set; using {strong}")
    elif not options.given("encryption_algorithm"):
        reason = "neither this nor a password is set: nothing is encrypted and anyone may connect"
        hint = f"set encryption_algorithm={strong} and encryption_password"
        report.warning(0, "encryption_algorithm", reason, hint)
    if algorithm in WEAK and not given:
        report.warning(line, "encryption_password", "is not set: anyone may connect")


def _check_kcp(options: Options, report: Report) -> None:
    preset = options.get("kcp", str)
    line = options.line("kcp")
    if preset == presets.MANUAL:
        for name in _MANUAL:
            if not options.given(name):
                report.error(line, name, "is not set, but kcp=manual requires it")
        return
    for name in _MANUAL:
        if options.given(name):
            reason = f"has an effect only with kcp=manual; {preset or presets.DEFAULT} has its own value"
            report.warning(options.line(name), name, reason)


def _check_families(options: Options, report: Report) -> None:
    both = [name for name in _FAMILY if options.flag(name)]
    if len(both) == 2:
        line = max(options.line(name) for name in both)
        report.error(
            line,
            "ipv6_only",
            "ipv4_only and ipv6_only exclude each other",
            "remove both to use both families",
        )
        return
    for name in options.addresses("destination_address").names:
        if reason := nowhere(name):
            hint = "name the machine to connect to; this one is 127.0.0.1 or ::1"
            report.error(options.line("destination_address"), "destination_address", reason, hint)
    for flag in both:
        for key in ("listen_on", "destination_address"):
            _check_family(options, key, flag, report)


def _check_family(options: Options, key: str, flag: str, report: Report) -> None:
    names = options.addresses(key).names
    others = [name for name in names if version(name) not in (None, _FAMILY[flag])]
    if not others:
        return
    reason = f"{flag} in line {options.line(flag)} excludes {', '.join(others)}"
    if len(others) == len(names):
        report.error(options.line(key), key, reason)
    else:
        report.warning(options.line(key), key, reason + "; using the other addresses")


# -- Legs of each kind --


def _check_tunnel_listen(options: Options, where: str, report: Report) -> None:
    """A server's or relay's side towards the client."""
    if options.addresses("listen_on").custom:
        report.error(options.line("listen_on"), "listen_on", "only a client may have {}", "remove the line")
    if options.ports("listen_port").custom:
        report.error(
            options.line("listen_port"), "listen_port", "only a client may have {}", "set port numbers"
        )
    if not options.given("listen_port"):
        report.error(0, "listen_port", f"{where}is not set", "for example listen_port=3000-3010")
    _check_update(options, report)
    if options.get("stun_server", str) is None:
        return
    line = options.line("stun_server")
    if len(options.ports("listen_port").numbers) > 1:
        report.error(
            line, "stun_server", "requires exactly one listen_port", f"see line {options.line('listen_port')}"
        )
    if len(options.addresses("listen_on").names) > 1:
        report.error(
            line, "stun_server", "allows at most one listen_on", f"see line {options.line('listen_on')}"
        )


def _check_update(options: Options, report: Report) -> None:
    for name in ("update_ipv4", "update_ipv6"):
        program = options.get(name, str)
        if program is None:
            continue
        if not options.given("stun_server"):
            report.warning(options.line(name), name, "has no effect without stun_server")
        if os.path.isdir(program) or not os.access(program, os.X_OK):
            report.warning(options.line(name), name, "this user cannot run it as a program")


def _check_client_listen(raw: RawFile, report: Report) -> None:
    options = raw.outside
    ports = options.ports("listen_port")
    custom = ports.custom or options.addresses("listen_on").custom
    if len(ports.numbers) > 1:
        reason = f"a client listens on the lowest port only, {ports.numbers[0]}"
        report.warning(options.line("listen_port"), "listen_port", reason)
    if raw.custom_line and not custom:
        hint = "set listen_port={}"
        report.warning(
            raw.custom_line, "custom_input", "mappings have no effect without listen_port={}", hint
        )
    if custom and not raw.mapping_lines:
        name = "listen_port" if ports.custom else "listen_on"
        hint = "add a section [custom_input] with lines like 127.0.0.1:8000 -> 10.0.0.1:80"
        report.error(options.line(name), name, "{} requires mappings, and there are none", hint)
    elif not custom and not any(map(options.given, ("listen_port", "socks_port", "listen_path"))):
        report.error(0, "listen_port", "is not set", "for example listen_port=59000")
    _check_proxy(options, report)
    for line, reason in sorted({(m.line, nowhere(m.mapping.target_address)) for m in raw.mappings.values()}):
        if reason:
            report.error(line, "mapping", reason, "name the machine to connect to")
    for flag, family in _FAMILY.items():
        if custom and options.flag(flag):
            _check_mapped_family(raw, flag, family, report)


def _check_proxy(options: Options, report: Report) -> None:
    """A proxy without a password is for this machine."""
    names = options.addresses("listen_on").names
    if options.given("socks_port") and any(name not in ("127.0.0.1", "::1", "localhost") for name in names):
        reason = f"whoever reaches {', '.join(names)} can use this proxy: it asks for no password"
        report.warning(options.line("socks_port"), "socks_port", reason, "listen_on=127.0.0.1")


def _check_mapped_family(raw: RawFile, flag: str, family: int, report: Report) -> None:
    for found in raw.mappings.values():
        address = found.mapping.listen_address
        if address and version(address) != family:
            reason = f"{flag} in line {raw.outside.line(flag)} excludes {address}"
            report.error(found.line, "mapping", reason)


def _check_dial(options: Options, report: Report) -> None:
    """A client's or relay's side towards the server."""
    pair = ("destination_address", "destination_port")
    for name, custom in zip(
        pair, (options.addresses(pair[0]).custom, options.ports(pair[1]).custom), strict=True
    ):
        if custom:
            report.error(
                options.line(name), name, "only a server may have {}", "set the next node's address and port"
            )
    if options.given("destination_dnstxt"):
        line = options.line("destination_dnstxt")
        given = [name for name in pair if options.given(name)]
        for name in given:
            report.error(
                options.line(name),
                name,
                f"conflicts with destination_dnstxt in line {line}",
                "keep one of them",
            )
        host = options.get("destination_dnstxt", str)
        if host is not None and version(host) is not None:
            hint = "set destination_address and destination_port instead"
            report.error(line, "destination_dnstxt", f"{host} is an address, not a name", hint)
        return
    for name, example in zip(pair, ("203.0.113.7", "3000-3010"), strict=True):
        if not options.given(name):
            report.error(0, name, "is not set", f"for example {name}={example}")


def _check_target(options: Options, report: Report) -> None:
    """A server's side towards the application."""
    addresses, ports = options.addresses("destination_address"), options.ports("destination_port")
    custom = addresses.custom or ports.custom
    if len(addresses.names) > 1:
        reason = f"a server has one target; here are {len(addresses.names)} addresses"
        report.error(options.line("destination_address"), "destination_address", reason)
    if len(ports.numbers) > 1:
        reason = f"a server has one target; here are {len(ports.numbers)} ports"
        report.error(options.line("destination_port"), "destination_port", reason)
    by_path = options.given("destination_path")
    for name, example in (("destination_address", "127.0.0.1"), ("destination_port", "8080")):
        other = "destination_port" if name == "destination_address" else "destination_address"
        if not custom and not options.given(name) and not (by_path and not options.given(other)):
            report.error(0, name, "is not set", f"for example {name}={example}")
    if options.given("allow_targets") and not custom:
        reason = "has an effect only with destination_port={}, where clients choose the target"
        report.warning(options.line("allow_targets"), "allow_targets", reason)
    if custom and not options.given("allow_targets"):
        name = "destination_port" if ports.custom else "destination_address"
        reason = (
            "with {}, clients may connect to anything that this machine can reach, its own services"
            " (127.0.0.1, ::1) and private networks included, but for link-local and cloud metadata addresses"
        )
        report.warning(options.line(name), name, reason, "limit them with allow_targets")


# -- The node --


def _check_log_path(options: Options, report: Report) -> None:
    path = options.get("log_path", str)
    if path is None:
        return
    line = options.line("log_path")
    if not os.path.exists(path):
        report.error(line, "log_path", "does not exist", "create the directory first")
    elif not os.path.isdir(path):
        report.error(line, "log_path", "is not a directory", "name the directory, not the file")
    elif not os.access(path, os.W_OK):
        report.warning(line, "log_path", "this user cannot write to it")


def _check_user(options: Options, report: Report) -> None:
    user, group = options.get("user", str), options.get("group", str)
    if user is None:
        if group is not None:
            report.error(options.line("group"), "group", "needs user", "set user as well")
        return
    try:
        wanted = identity(user, group or "")
    except LookupError as error:
        report.error(options.line("user"), "user", str(error.args[0]), "useradd --system adds one")
        return
    if wanted.uid == 0:
        report.warning(options.line("user"), "user", "is root: it keeps all rights", "name another user")


def _note_pending(raw: RawFile, report: Report) -> None:
    """Note every value that is checked but has no effect in this version."""
    for options in (raw.outside, raw.listener, raw.forwarder):
        for name, setting in options.settings.items() if options is not None else ():
            key = KEYS[name]
            if key.pending and setting.value is not None and setting.value != key.default:
                report.note(setting.line, name, f"accepted, has no effect yet ({key.pending})")
