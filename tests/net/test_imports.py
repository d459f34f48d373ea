"""What a node imports until it is ready: nothing that its configuration has no use for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.net import processes
from tests.net.test_process_chain import CLIENT, write

# Runs the files named as the command does, and once it is ready says what was imported, and ends.
PROBE = """
import os, signal, sys
from kcpg import __main__, engine
from kcpg.app import foreground

def told(line):
    print("\\n".join(sorted(sys.modules)))
    os.kill(os.getpid(), signal.SIGTERM)

foreground._announce = told
sys.argv[0] = "kcpg"
sys.exit(__main__.main())
"""

# What has a use only with a key that names it, or in another command.
NOT_FOR_A_PLAIN_CLIENT = (
    "Cryptodome.Protocol", "Cryptodome.PublicKey",  # where cryptography is missing
    "dns", "kcpg.net.dnstxt", "kcpg.net.txtpeer",  # destination_dnstxt
    "kcpg.core.kcptube.dialer", "kcpg.core.kcptun.dialer", "kcpg.app.foreignlegs", "cramjam",  # dialect
    "prometheus_client", "kcpg.app.prometheus",  # metrics_listen
    "sqlite3", "kcpg.app.account",  # users
    "gevent.pywsgi", "kcpg.app.httpserver", "kcpg.app.web", "http.server",  # and web_listen
    "kcpg.app.trial", "kcpg.app.speedtest", "kcpg.core.speedtest.asker", "kcpg.app.doctor",
    "segno", "kcpg.app.init", "kcpg.app.convert", "textual", "rich", "asyncio", "kcpg.api",
)  # fmt: skip


def imported(tmp_path: Path, more: str) -> set[str]:
    """The modules of a client with these lines, once it is ready, and the packages that they are in."""
    listen, port = processes.free_ports(2)
    file = write(tmp_path, "client.conf", CLIENT, listen=listen, ports=port)
    file.write_text(file.read_text() + more)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(file)], env=processes.environment(tmp_path / "state"),
        capture_output=True, text=True, timeout=processes.PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_plain_client_imports_nothing_that_it_has_no_use_for(tmp_path: Path) -> None:
    found = imported(tmp_path, "")
    assert "kcpg.core.native.dial.dialer" in found
    assert found.isdisjoint(NOT_FOR_A_PLAIN_CLIENT), found & set(NOT_FOR_A_PLAIN_CLIENT)


@pytest.mark.parametrize(
    ("more", "module"),
    [
        ("metrics_listen=127.0.0.1:{port}\n", "prometheus_client"),
        ("web_listen=127.0.0.1:{port}\n", "kcpg.app.web.application"),
    ],
)
def test_what_is_configured_is_imported(tmp_path: Path, more: str, module: str) -> None:
    (port,) = processes.free_ports(1)
    assert module in imported(tmp_path, more.format(port=port))
