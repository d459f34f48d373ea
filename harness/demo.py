"""`make run`: demonstrates the whole chain on this machine.

Client, relay and server run as three processes on loopback, in front of an echo service. The demo sends a
file over TCP and packets over UDP, and compares every byte. Then the chain stays up until Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness import chain as chains
from harness import traffic
from harness.process import ROOT, Failed
from harness.report import hop_table, picture

ENTRY_PORT = 59000
# The ports of the README's chain, first and number: used when they are free, others otherwise.
RELAY_PORTS = (3000, 11)
SERVER_PORTS = (13000, 11)

FILE_MEGABYTES = 64
PACKETS = 300
ROUND_TRIPS = 500
MESSAGE_BYTES = 64

# From one byte to more than a dozen datagrams: small packets take one segment, larger ones several fragments.
PACKET_SIZES = (1, 64, 512, 1200, 1400, 4000, 9000, 20000)

LOOK_S = 0.5  # Interval for checking that all nodes still run


def main(words: Sequence[str]) -> int:
    """Run the demo; returns 0 if all bytes are right, else 1."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the check (the default if CI is set)")
    parser.add_argument("--size", type=int, default=FILE_MEGABYTES, metavar="MB", help="size of the file")
    parser.add_argument("--any-ports", action="store_true", help="do not prefer the ports in the README")
    options = parser.parse_args(words)
    once = options.once or bool(os.environ.get("CI"))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)  # a terminal without UTF-8 shows ?
    signal.signal(signal.SIGTERM, _leave)  # so that SIGTERM cleans everything up, too
    try:
        with tempfile.TemporaryDirectory(prefix="kcpg-demo-") as directory:
            return _run(Path(directory), options.size * 1_000_000, once, options.any_ports)
    except KeyboardInterrupt:
        print("\nended")
        return 0
    except (Failed, traffic.Damaged, OSError) as error:
        print(f"\nkcpg demo: FAILED: {error}", file=sys.stderr)
        return 1


def _run(directory: Path, file_bytes: int, once: bool, any_ports: bool) -> int:
    ports = chains.Ports(prefer=not any_ports)
    entry = (chains.LOOPBACK, ports.one(ENTRY_PORT))
    target = ("::1" if chains.has_ipv6() else chains.LOOPBACK, ports.one(ENTRY_PORT + 1))
    hops = (
        chains.Hop(ports.range(RELAY_PORTS[1], RELAY_PORTS[0]), "AES-GCM", _password(), {"kcp": "regular1"}),
        chains.Hop(
            ports.range(SERVER_PORTS[1], SERVER_PORTS[0]), "AES-OCB", _password(), {"kcp": "regular2"}
        ),
    )
    print(f"{_version()}: the whole chain on this machine\n")
    with traffic.EchoService(*target), chains.running(directory, entry, target, hops) as chain:
        print(picture(chain))
        try:
            _check(chain, directory, file_bytes)
        except (traffic.Damaged, OSError) as error:
            raise Failed(f"{error}{_logs(chain)}") from error
        if once:
            return 0
        _serve(chain)
    return 0


def _check(chain: chains.Chain, directory: Path, file_bytes: int) -> None:
    """Send everything and print a line about each; raises if anything comes back different."""
    file = directory / "file"
    _make_file(file, file_bytes)
    done = traffic.send_file(chain.entry, file)
    carried = hop_table(chain)
    file.unlink()
    print(
        f"  TCP  a file of {done.size_bytes / 1e6:,.0f} MB there and back, every byte compared: "
        f"{done.seconds:.2f} s, {done.megabytes_per_second:,.0f} MB/s each way"
    )
    times = traffic.round_trips(chain.entry, ROUND_TRIPS, MESSAGE_BYTES)
    print(f"  TCP  {ROUND_TRIPS} messages of {MESSAGE_BYTES} bytes and back: {_latency(times)}")
    seed = secrets.randbits(32)
    sizes = random.Random(seed).choices(PACKET_SIZES, k=PACKETS)
    times = traffic.send_packets(chain.entry, sizes, seed)
    print(
        f"  UDP  {PACKETS} packets of {min(sizes):,} to {max(sizes):,} bytes came back unchanged: "
        f"{_latency(times)}"
    )
    print(f"\n  What the links carried for the file, from `kcpg status`:\n{carried}")


def _serve(chain: chains.Chain) -> None:
    """Keep the chain up. Raises Failed if a node exits, KeyboardInterrupt at Ctrl-C."""
    host, port = chain.entry
    states = chain.environ["KCPG_STATE_DIR"]
    print(
        "\nThe chain stays up. In another terminal:\n"
        f"    echo hello | nc -N {host} {port}          through TCP\n"
        f"    echo hello | nc -u -w1 {host} {port}      through UDP\n"
        f"    KCPG_STATE_DIR={states} {_kcpg()} status\n"
        f"    less {chain.nodes[0].config}      shows the client's configuration\n"
        "Ctrl-C stops it."
    )
    while True:
        time.sleep(LOOK_S)
        for node in chain.nodes:
            if not node.program.running:
                raise Failed(f"the {node.role} has exited{_logs(chain)}")


def _make_file(path: Path, size_bytes: int) -> None:
    piece_bytes = 1 << 20
    with path.open("wb") as file:
        left = size_bytes
        while left > 0:
            left -= file.write(os.urandom(min(piece_bytes, left)))


def _latency(times: Sequence[float]) -> str:
    return (
        f"round trip {traffic.quantile(times, 0.5) * 1e3:.2f} ms (median), "
        f"{traffic.quantile(times, 0.99) * 1e3:.2f} ms (99 %)"
    )


def _password() -> str:
    return secrets.token_urlsafe(18)


def _version() -> str:
    """The first line of `--version`, and the engine: `kcpg 0.2.0, compiled engine`."""
    command = [*chains.kcpg_command(), "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Failed(f"kcpg does not start:\n{done.stderr.strip()}")
    version, *facts = done.stdout.splitlines()
    engine = dict(fact.split(": ", 1) for fact in facts)["engine"]
    return f"{version}, {engine} engine"


def _kcpg() -> str:
    """The shortest way to type the installed command."""
    installed = Path(sys.executable).with_name("kcpg")
    if not installed.exists():
        return f"{sys.executable} -m kcpg"
    return os.path.relpath(installed) if installed.is_relative_to(Path.cwd()) else str(installed)


def _logs(chain: chains.Chain) -> str:
    lines = []
    for node in chain.nodes:
        lines.append(f"\n--- last lines of {node.config.stem}:")
        lines += node.program.output().strip().splitlines()[-8:]
    return "\n".join(lines)


def _leave(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
