"""What a file gives away: secrets that others can read or guess, and a client that listens for everybody."""

from __future__ import annotations

from kcpg.app.config.addresses import is_loopback
from kcpg.app.config.build import secret
from kcpg.app.config.raw import Options, RawFile
from kcpg.app.config.report import Report
from kcpg.net.addr import strip_brackets

# A recorded handshake lets its holder try passwords at leisure; scrypt takes some 0.1 s of a core for each.
# Eight random letters are 2^38 of them, a month of ten thousand cores; twelve are 2^56, forty thousand years.
SHORT_PASSWORD_BYTES = 12

# Passwords that stand in examples, of kcpg and of kcptube, or at the top of every list of leaked ones.
PUBLISHED = frozenset({
    b"qwerty1234", b"qwerty12345", b"qwerty123456", b"qwertyuiop", b"1234567890", b"123456789012",
    b"password1234", b"password12345", b"passwordpassword", b"111111111111", b"000000000000",
    b"administrator", b"changemechangeme", b"it's a secrect",
    b"the secret both ends share", b"a long sentence that both sides know",
    b"a long sentence that client and relay know", b"another one, for relay and server",
})  # fmt: skip

_INLINE = ("encryption_password", "encryption_key", "private_key")
_EVERYWHERE = {"0.0.0.0", "::"}


def check_secrets(raw: RawFile, options: Options, report: Report) -> None:
    """Warn about the secrets of one tunnel leg: a file that others can read, and a password to guess."""
    for name in _INLINE:
        if raw.readable_by_others and options.given(name):
            reason = "every user of this machine can read it in this file"
            report.warning(options.line(name), name, reason, "chmod 600")
    password, _ = secret(raw, options)
    if not password:
        return
    name = next(one for one in ("encryption_password_file", "encryption_password") if options.given(one))
    hint = "use a longer one of your own, or encryption_key with what kcpg keygen prints"
    if password.lower() in PUBLISHED:
        reason = "this password is published, in examples or in lists that attackers try first"
        report.warning(options.line(name), name, reason, hint)
    elif len(password) < SHORT_PASSWORD_BYTES:
        reason = (
            f"a password of less than {SHORT_PASSWORD_BYTES} bytes can be guessed from a recorded handshake"
        )
        report.warning(options.line(name), name, reason, hint)


def check_web(raw: RawFile, report: Report) -> None:
    """Who may read the page of `web_listen`: this machine, or whoever has the token."""
    options = raw.outside
    where, token = options.get("web_listen", str), options.get("web_token", str)
    line = options.line("web_token")
    if token is not None and where is None:
        report.warning(line, "web_token", "has no effect without web_listen")
    if token is not None and raw.readable_by_others:
        report.warning(line, "web_token", "every user of this machine can read it in this file", "chmod 600")
    if where is not None and token is None and not is_loopback(strip_brackets(where.rpartition(":")[0])):
        reason = f"whoever reaches {where} could read the page"
        report.error(
            options.line("web_listen"), "web_listen", reason, "set web_token, or listen at 127.0.0.1"
        )


def check_audience(raw: RawFile, report: Report) -> None:
    """Say where a client listens for everybody: who reaches it uses the tunnel without a password."""
    options = raw.outside
    ports, names = options.ports("listen_port"), options.addresses("listen_on")
    who = "everybody who can reach this machine may use the tunnel"
    chosen = _EVERYWHERE.intersection(names.names)
    if ports.numbers and chosen:
        report.note(options.line("listen_on"), "listen_on", f"{', '.join(sorted(chosen))}: {who}")
    elif ports.numbers and not options.given("listen_on"):
        reason = f"is not set, so this client listens on every address: {who}"
        report.warning(
            0, "listen_on", reason, "listen_on=127.0.0.1 for this machine alone, 0.0.0.0 for everybody"
        )
    if ports.custom or names.custom:
        for line in sorted({m.line for m in raw.mappings.values() if not m.mapping.listen_address}):
            report.note(
                line, "mapping", f"without an address before the port, it listens on every one: {who}"
            )
