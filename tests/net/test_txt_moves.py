"""A TXT record at a real DNS server moves, and a live link goes where it says when its old address dies."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.netns import Lab, Namespace
from tests.net import processes
from tests.net.emulation import lab

__all__ = ["lab"]

RESOLVER = "127.0.0.53"
NAME = "tunnel.example"
SERVER = """
mode=server
listen_port=3001,3002
destination_address=127.0.0.1
destination_port=7
encryption_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
"""
CLIENT = f"""
mode=client
listen_on=127.0.0.1
listen_port=59000
destination_dnstxt={NAME}
dport_refresh=0
encryption_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
"""
ASK_ROOT = bytes.fromhex("0001010000010000000000000000020001")  # type NS, class IN
BLOCK = "add table inet t; add chain inet t c {{ type filter hook input priority 0; }}; "
BLOCK += "add rule inet t c udp dport {0} drop; add rule inet t c udp sport {0} drop"


@contextmanager
def record(room: Namespace, text: str) -> Iterator[None]:
    """A DNS server in the namespace that says this of NAME."""
    words = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
             "--bind-interfaces", f"--listen-address={RESOLVER}", "--pid-file=", "--user=root",
             "--local-ttl=1", f"--txt-record={NAME},{text}"]  # fmt: skip
    running = subprocess.Popen(room.command(words), stderr=subprocess.DEVNULL)
    try:
        processes.until(lambda: _answers(room), "the DNS server answers")
        yield
    finally:
        running.terminate()
        running.wait(10)


def _answers(room: Namespace) -> bool:
    """A question about the root, which any server answers somehow."""
    with room.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        try:
            sock.sendto(ASK_ROOT, (RESOLVER, 53))
            return bool(sock.recv(512))
        except OSError:
            return False


@contextmanager
def node(room: Namespace, directory: Path, name: str, text: str) -> Iterator[subprocess.Popen[str]]:
    """A kcpg process in the namespace that asks our DNS server."""
    config, resolv = directory / name, directory / "resolv.conf"
    config.write_text(text)
    resolv.write_text(f"nameserver {RESOLVER}\noptions timeout:1\n")
    # ip netns exec gives its program a mount namespace of its own: nobody else sees this.
    script = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
    words = room.command(["sh", "-c", script, "sh", *processes.command(config)])
    running = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=processes.environment(directory / "state"),
    )  # fmt: skip
    assert running.stdout is not None
    try:
        line = ""
        while "kcpg: ready" not in line:
            line = running.stdout.readline()
            assert line, "it ended"
        yield running
    finally:
        running.terminate()
        running.communicate(timeout=20)


def test_a_live_link_follows_the_record(lab: Lab, tmp_path: Path) -> None:
    """The flow that was open goes on."""
    room = lab.add("all")
    with room.inside():
        target = socket.create_server(("127.0.0.1", 7))
    with ExitStack() as after, target, room.socket(socket.AF_INET, socket.SOCK_STREAM) as app:
        after.enter_context(node(room, tmp_path, "s.conf", SERVER))
        with record(room, "127.0.0.1:3001"):
            after.enter_context(node(room, tmp_path, "c.conf", CLIENT))
            app.settimeout(processes.PATIENCE_S)
            app.connect(("127.0.0.1", 59000))
            far, _ = target.accept()
            far.settimeout(processes.PATIENCE_S)
            app.sendall(b"before")
            assert far.recv(10) == b"before"
        with far, record(room, "127.0.0.1:3002"):
            room.run(["nft", BLOCK.format(3001)])
            app.sendall(b"after")
            assert far.recv(10) == b"after"
            far.sendall(b"answer")
            assert app.recv(10) == b"answer"
