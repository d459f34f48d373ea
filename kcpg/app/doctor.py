"""`kcpg doctor`: looks at the machine for what makes a node slow or deaf, and says what to type.

A check takes what it reads as an argument, so that tests can give it any machine.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from kcpg import engine
from kcpg.app.config.model import LegKind, NodeConfig
from kcpg.app.descriptors import FEW_FLOWS, HOW_TO_RAISE
from kcpg.app.paths import state_directory
from kcpg.errors import EXIT_FAILURE, EXIT_OK, KcpgError
from kcpg.net.udp import BUFFER_BYTES, open_udp

# A mapping that is forgotten sooner than this loses an idle link between two of its PINGs (20 s).
CONNTRACK_TIMEOUT_S = 25

# Beyond this share of a full table new flows begin to be refused at the next burst.
CONNTRACK_FULL = 0.8

# Of all datagrams since boot; less is what one burst long ago leaves.
DROPPED_SHARE = 0.001

ORDINARY_MTU = 1500  # Ethernet's

_IP_MTU, _IPV6_MTU = 14, 24  # include/uapi/linux/in.h, in6.h

_STA_UNSYNC = 0x40  # include/uapi/linux/timex.h: nothing disciplines the clock

_TIMEX_BYTES = 208  # sizeof(struct timex) on 64-bit machines; larger than on others

_STATUS_OFFSET = 40  # of `status` there, on 64-bit machines


class Finding(NamedTuple):
    """One line of the report."""

    ok: bool
    what: str
    text: str
    do: str = ""  # What to type, if something is to be done

    def __str__(self) -> str:
        line = f"{'ok  ' if self.ok else 'BAD '}  {self.what}: {self.text}"
        return f"{line}\n      {self.do}" if self.do else line


def examine(configs: Sequence[NodeConfig], say: Callable[[str], None]) -> int:
    """Say what every check found; 0 if nothing is bad."""
    bad = 0
    for finding in findings(configs, Path("/proc")):
        bad += not finding.ok
        say(str(finding))
    say("nothing to mend" if not bad else f"{bad} of these can be mended")
    return EXIT_FAILURE if bad else EXIT_OK


def findings(configs: Sequence[NodeConfig], proc: Path) -> Iterator[Finding]:
    """Of every check, in the order in which they matter."""
    yield check_engine(engine.ENGINE)
    yield check_cipher(engine.cipher_libraries()["AES-GCM"], platform.machine())
    yield check_buffers(*_buffers())
    yield check_offload(*_offloads())
    yield check_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield from check_conntrack(proc / "sys/net/netfilter")
    yield from check_drops(proc / "net/snmp")
    yield check_clock(_clock_status())
    yield check_state()
    for config in configs:
        yield from _check_paths(config)


def check_engine(name: str) -> Finding:
    """Which engine runs."""
    if name == "compiled":
        return Finding(True, "engine", "compiled")
    do = "install a C compiler and Python's headers, then kcpg again; without KCPG_ENGINE=python"
    return Finding(False, "engine", "plain Python, at a fraction of the speed", do)


def check_cipher(backend: str, machine: str) -> Finding:
    """Which library encrypts."""
    if backend.startswith("OpenSSL 3.0") and machine == "x86_64":
        do = "apt-get install libipsec-mb1"
        return Finding(False, "cipher", f"AES-GCM by {backend}, a third of the speed of libipsec-mb", do)
    return Finding(True, "cipher", f"AES-GCM by {backend}")


def check_buffers(receive_bytes: int, send_bytes: int) -> Finding:
    """What a tunnel socket of this user gets."""
    least = min(receive_bytes, send_bytes)
    text = f"{receive_bytes >> 10} KiB to receive, {send_bytes >> 10} KiB to send"
    if least >= BUFFER_BYTES:
        return Finding(True, "socket buffers", text)
    do = f"sysctl -w net.core.rmem_max={BUFFER_BYTES} net.core.wmem_max={BUFFER_BYTES}, and in /etc/sysctl.d"
    return Finding(False, "socket buffers", f"{text}; bursts are lost there", do)


def check_offload(gso: bool, gro: bool) -> Finding:
    """Whether one system call carries many datagrams."""
    if gso and gro:
        return Finding(True, "UDP offload", "segmentation and GRO")
    missing = " and ".join(name for name, has in (("segmentation", gso), ("GRO", gro)) if not has)
    do = "unset KCPG_OFFLOAD; Linux 5.0 or newer has both"
    return Finding(False, "UDP offload", f"no {missing}: more processor time per byte", do)


def check_descriptors(limit: int) -> Finding:
    """How many flows the limit leaves room for."""
    if limit == resource.RLIM_INFINITY or limit >= 2 * FEW_FLOWS:
        text = "no limit" if limit == resource.RLIM_INFINITY else str(limit)
        return Finding(True, "file descriptors", text)
    return Finding(False, "file descriptors", f"{limit}, and each flow takes one", HOW_TO_RAISE)


def check_conntrack(directory: Path) -> Iterator[Finding]:
    """The connection tracking of this machine's firewall; nothing where there is none."""
    count, most = (_number(directory / f"nf_conntrack_{name}") for name in ("count", "max"))
    if count is None or not most:
        return
    text = f"{count} of {most} entries"
    if count >= CONNTRACK_FULL * most:
        do = f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}"
        yield Finding(False, "conntrack", f"{text}: new flows are about to be refused", do)
    else:
        yield Finding(True, "conntrack", text)
    timeout_s = _number(directory / "nf_conntrack_udp_timeout")
    if timeout_s is not None and timeout_s < CONNTRACK_TIMEOUT_S:
        do = "sysctl -w net.netfilter.nf_conntrack_udp_timeout=30, or keep_alive=10 in the configuration"
        yield Finding(False, "conntrack", f"forgets UDP after {timeout_s} s: idle links die", do)


def check_drops(file: Path) -> Iterator[Finding]:
    """What the kernel has dropped for want of room since boot, all programs together."""
    try:
        rows = [line.split()[1:] for line in file.read_text().splitlines() if line.startswith("Udp:")]
        counts = dict(zip(rows[0], map(int, rows[1]), strict=True))
    except (OSError, IndexError, ValueError):
        return
    received = counts.get("InDatagrams", 0)
    dropped = counts.get("RcvbufErrors", 0) + counts.get("SndbufErrors", 0)
    text = f"{dropped} of {received} datagrams since boot"
    if received and dropped > DROPPED_SHARE * received:
        yield Finding(False, "UDP dropped for want of buffers", text, "see socket buffers, and workers=auto")
    else:
        yield Finding(True, "UDP dropped for want of buffers", text)


def check_clock(status: int | None) -> Finding:
    """Whether something keeps the clock right: handshakes need one that is less than a minute off."""
    if status is None:
        return Finding(True, "clock", "nobody can tell whether it is kept right")
    if status & _STA_UNSYNC:
        text = "nothing keeps it right; a peer has to correct it at each handshake beyond 60 s"
        return Finding(False, "clock", text, "timedatectl set-ntp true, or install chrony")
    return Finding(True, "clock", "kept right")


def check_state() -> Finding:
    """Where the lock and the status socket are."""
    try:
        return Finding(True, "state directory", str(state_directory(os.environ)))
    except KcpgError as error:
        return Finding(False, "state directory", error.message, error.hint)


def check_mtu(where: str, mtu: int, configured: int | None) -> Finding:
    """What this machine's own interface takes on the way to an address."""
    if configured is not None and configured > mtu:
        text = f"mtu={configured}, but the interface takes {mtu}"
        return Finding(False, where, text, f"write mtu={mtu}, or leave it to kcpg")
    note = "" if mtu >= ORDINARY_MTU else f", less than the usual {ORDINARY_MTU}: another tunnel or PPPoE"
    return Finding(True, where, f"packets of {mtu} bytes leave this machine{note}")


def _check_paths(config: NodeConfig) -> Iterator[Finding]:
    leg = config.egress
    if leg.kind is not LegKind.TUNNEL:
        return
    for host in leg.addresses:
        where = f"way to {host}"
        families = {True: socket.AF_INET, False: socket.AF_INET6 if leg.ipv6_only else socket.AF_UNSPEC}
        try:
            rows = socket.getaddrinfo(host, leg.ports[0], families[leg.ipv4_only], socket.SOCK_DGRAM)
        except OSError as error:
            yield Finding(False, where, f"does not resolve: {error.strerror}", "check destination_address")
            continue
        yield _route(where, rows, leg.mtu_bytes)


def _route(where: str, rows: Iterable[tuple[Any, ...]], mtu: int | None) -> Finding:
    """Of the first address that has a route."""
    why = "no address"
    for family, kind, _, _, address in rows:
        with closing(socket.socket(family, kind)) as sock:
            try:
                sock.connect(address)
                level, option = (41, _IPV6_MTU) if family == socket.AF_INET6 else (0, _IP_MTU)
                return check_mtu(where, sock.getsockopt(level, option), mtu)
            except OSError as error:
                why = error.strerror or str(error)
    return Finding(False, where, why, "ip route shows the ways there are; is the network up?")


def _buffers() -> tuple[int, int]:
    """What the kernel grants; it answers with the double, which it keeps for itself (socket(7))."""
    with closing(open_udp("127.0.0.1", 0)) as opened:
        options = (socket.SO_RCVBUF, socket.SO_SNDBUF)
        receive, send = (opened.sock.getsockopt(socket.SOL_SOCKET, option) // 2 for option in options)
    return receive, send


def _offloads() -> tuple[bool, bool]:
    with closing(open_udp("127.0.0.1", 0)) as opened:
        return opened.gso, opened.gro


def _clock_status() -> int | None:
    """`status` of adjtimex(2), None where that is not to be had."""
    if not re.fullmatch(r"x86_64|aarch64|riscv64|ppc64le|s390x", platform.machine()):
        return None
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        if ctypes.CDLL(None).adjtimex(buffer) < 0:
            return None
    except AttributeError:
        return None
    return int.from_bytes(buffer.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], sys.byteorder)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
