"""Small configuration files and ways to look at what became of them."""

from __future__ import annotations

from kcpg.app.config import Severity, load_text
from kcpg.app.config.model import Loaded, Problem

CLIENT = """\
mode=client
listen_port=59000
destination_port=3000-3010
destination_address=192.0.2.1
encryption_password=unguessable-1234
encryption_algorithm=AES-GCM
"""
# The same without a warning: it listens for this machine alone.
QUIET_CLIENT = f"{CLIENT}listen_on=127.0.0.1\n"
SERVER = """\
mode=server
listen_port=13000-13010
destination_port=8000
destination_address=::1
encryption_password=unguessable-1234
encryption_algorithm=AES-OCB
"""
RELAY = """\
mode=relay
{outside}
[listener]
listen_port=3000-3010
encryption_password=one of these two hops
encryption_algorithm=AES-GCM
{listener}
[forwarder]
destination_port=13000
destination_address=192.0.2.2
encryption_password=two of these two hops
encryption_algorithm=AES-OCB
{forwarder}
"""


def relay(outside: str = "", listener: str = "", forwarder: str = "") -> Loaded:
    return load_text("relay.conf", RELAY.format(outside=outside, listener=listener, forwarder=forwarder))


def said(loaded: Loaded, severity: Severity, key: str) -> list[Problem]:
    return [p for p in loaded.problems if p.severity is severity and p.key == key]


def errors(text: str | bytes) -> list[tuple[int, str]]:
    return [(p.line, p.key) for p in load_text("a.conf", text).errors]
