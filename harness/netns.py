"""Network namespaces: creates, wires and enters them, and removes them on every way out.

Their names are `kcpg-<pid>-<number>`, which tells the owner. Nothing outside of them changes: no interface,
address, route or setting of the machine's own network. Every command that changes one is recorded and can be
printed, as a person would type it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from harness.process import Failed
from netem.namespace import DIRECTORY, entered

NAME = re.compile(r"kcpg-(\d+)-\d+")
FILES = re.compile(r"kcpg-lab-(\d+)-\w+")

GRACE_S = 2.0  # How long processes in a namespace get between SIGTERM and SIGKILL

# Length of a TAP's ring. With the default of 1000, it loses bursts without a trace.
TAP_QUEUE_FRAMES = 20_000

SETTINGS = {
    # No unsolicited packets: each one would shift the pattern of a seed.
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/autoconf": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/default/addr_gen_mode": "1",  # no link-local address, hence no reports about its groups
    # Some topologies have several paths to a node.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    # The same everywhere, whatever the machine's default; comparisons set the algorithm per socket.
    # (Only reno is accepted here if the machine does not offer others to everybody.)
    "net/ipv4/tcp_congestion_control": "reno",
    # No metrics carry over to the next connection, and the largest windows hold 200 Mbit/s over 600 ms.
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv4/tcp_rmem": "4096 131072 33554432",
    "net/ipv4/tcp_wmem": "4096 65536 33554432",
}

_numbers = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Namespace:
    """One network namespace; `label` is its name in the drawing."""

    lab: Lab
    name: str
    label: str

    def command(self, words: Sequence[str]) -> list[str]:
        """The command that runs a program inside. The program replaces `ip`, so that signals reach it."""
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, words: Sequence[str], feed: str = "") -> str:
        """Run a program inside and return its output. Raises Failed."""
        return self.lab.run(self.command(words), feed)

    def ip(self, *lines: str) -> None:
        """Several `ip` commands in one go, each as a line such as "link set lo up". Raises Failed."""
        if lines:
            self.lab.run(["ip", "-n", self.name, "-batch", "-"], "\n".join(lines) + "\n")

    def inside(self) -> AbstractContextManager[None]:
        """Move this thread inside meanwhile; sockets that it opens stay there."""
        return entered(self.name)

    def socket(self, family: int, kind: int) -> socket.socket:
        """A socket in the namespace, usable from anywhere."""
        with self.inside():
            return socket.socket(family, kind)

    def set(self, settings: Mapping[str, str]) -> None:
        """Apply kernel settings by their path below /proc/sys; skip those that this kernel lacks."""
        with self.inside():
            for key, value in settings.items():
                path = Path("/proc/sys", key)
                if path.exists():
                    self.lab.note(f"ip netns exec {self.name} sysctl -w '{key.replace('/', '.')}={value}'")
                    path.write_text(value, encoding="ascii")

    def pids(self) -> list[int]:
        """The processes inside."""
        return _pids(self.name)


@dataclass(eq=False)
class Lab:
    """A set of namespaces. Use it in a `with` statement, whose end removes them and ends their processes.

    `echo`, for example `print`, is called with every command. `directory` is for files of the run, and is
    removed unless it was passed in. SIGTERM raises SystemExit meanwhile, so that it cleans up as well.
    """

    echo: Callable[[str], None] | None = None
    directory: Path = Path()
    commands: list[str] = field(default_factory=list)
    namespaces: list[Namespace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._before: object = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Lab:
        require_root()
        if self.directory == Path():
            self._temporary = tempfile.TemporaryDirectory(prefix=f"kcpg-lab-{os.getpid()}-")
            self.directory = Path(self._temporary.name)
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGTERM)
            if self._before == signal.SIG_DFL:
                signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not interrupt the clean-up of the first.
        main = threading.current_thread() is threading.main_thread()
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        try:
            remove([namespace.name for namespace in self.namespaces], self.note)
            self.namespaces.clear()
            if self._temporary is not None:
                self._temporary.cleanup()
        finally:
            if main:
                signal.signal(signal.SIGINT, interrupt)
                if self._before == signal.SIG_DFL:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def add(self, label: str, settings: Mapping[str, str] | None = None) -> Namespace:
        """A new namespace with only lo, which is up."""
        name = f"kcpg-{os.getpid()}-{next(_numbers)}"
        namespace = Namespace(self, name, label)
        self.namespaces.append(namespace)  # before it exists, so that it is removed however far this gets
        self.run(["ip", "netns", "add", name])
        namespace.set({**SETTINGS, **(settings or {})})
        namespace.ip("link set lo up")
        return namespace

    def veth(self, near: Namespace, near_device: str, far: Namespace, far_device: str) -> None:
        """A cable between two namespaces, without offloads, so that netem sees packets as a wire does."""
        peer = f"peer name {far_device} netns {far.name}"
        near.ip(f"link add {near_device} type veth {peer}")
        for namespace, device in ((near, near_device), (far, far_device)):
            off = [word for what in ("tx", "rx", "tso", "gso", "gro") for word in (what, "off")]
            namespace.run(["ethtool", "-K", device, *off])

    def tap(self, namespace: Namespace, device: str) -> None:
        """A TAP interface, whose frames a program reads and writes."""
        namespace.ip(f"tuntap add dev {device} mode tap", f"link set {device} txqueuelen {TAP_QUEUE_FRAMES}")

    def run(self, argv: Sequence[str], feed: str = "") -> str:
        """Run a command with `feed` as its input, and return its output. Raises Failed with its messages."""
        self.note(_as_typed(argv, feed))
        try:
            done = subprocess.run(
                argv, input=feed, capture_output=True, text=True, timeout=60, check=False, process_group=0
            )
        except FileNotFoundError:
            raise Failed(f"{argv[0]} is not installed") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise Failed(f"{_as_typed(argv, feed)}\n    {said}")
        return done.stdout

    def note(self, command: str) -> None:
        """Record a command, and echo it if asked to."""
        self.commands.append(command)
        if self.echo is not None:
            self.echo(command)


def require_root() -> None:
    """Raises Failed if this process cannot create namespaces."""
    if os.geteuid() != 0:
        raise Failed("network namespaces need root")


def remove(names: Sequence[str], note: Callable[[str], None] | None = None) -> None:
    """End the processes in these namespaces, and only those, then delete them. Missing ones are fine."""
    there = [name for name in names if Path(DIRECTORY, name).exists()]
    _end({pid for name in there for pid in _pids(name)})
    for name in there:
        if note is not None:
            note(f"ip netns del {name}")
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, process_group=0)


def sweep() -> list[str]:
    """Remove the namespaces and files of runs that are no more (killed, say); returns their names."""
    left = [name for name in leftovers() if _is_over(name.split("-")[1])]
    remove(left)
    files = [path for path in Path(tempfile.gettempdir()).glob("kcpg-lab-*-*") if _is_ours(path)]
    for path in files:
        shutil.rmtree(path, ignore_errors=True)
    return [*left, *map(str, files)]


def _is_ours(path: Path) -> bool:
    """Whether it is the directory of this user's run that is over."""
    match = FILES.fullmatch(path.name)
    try:
        return match is not None and _is_over(match[1]) and path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another process cleans up, too
        return False


def _is_over(pid: str) -> bool:
    return not Path("/proc", pid).exists()


def leftovers() -> list[str]:
    """Every namespace that is named like ours, those of live runs included."""
    directory = Path(DIRECTORY)
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return sorted(name for name in names if NAME.fullmatch(name))


def _pids(name: str) -> list[int]:
    done = subprocess.run(
        ["ip", "netns", "pids", name], capture_output=True, text=True, check=False, process_group=0
    )
    return [int(word) for word in done.stdout.split()]


def _end(pids: set[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        until_s = time.monotonic() + GRACE_S
        while pids and time.monotonic() < until_s:
            pids = {pid for pid in pids if _runs(pid)}
            time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether it exists and is no zombie, which only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _as_typed(argv: Sequence[str], feed: str) -> str:
    """A command as a person would type it; a batch as single commands."""
    if argv[-2:] == ["-batch", "-"]:
        return "\n".join(" ".join([*argv[:-2], line]) for line in feed.splitlines())
    return " ".join(argv) + (f" <<'END'\n{feed.rstrip()}\nEND" if feed else "")


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(words: Sequence[str]) -> int:
    """`clean`: remove what killed runs have left behind."""
    parser = argparse.ArgumentParser(prog="python -m harness.netns", description=main.__doc__)
    parser.add_argument("what", choices=["clean"], nargs="?", default="clean")
    parser.parse_args(words)
    if os.geteuid() == 0:
        for name in sweep():
            print(f"removed {name}")
    elif leftovers():
        print(f"only root can remove: {' '.join(leftovers())}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
