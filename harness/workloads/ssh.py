"""The real OpenSSH: a session with typing, bytes through a pipe, a file by scp there and back.

The task's directory holds keys, accounts and all output. The server runs in a mount namespace of its own, so
that it neither reads nor changes the accounts and the state of this machine.
Task: directory (see `prepare`), count lines typed, size_bytes of the file, seed.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from harness.workloads import base
from harness.workloads.base import Damaged, Task

PROGRAMS = ("sshd", "ssh", "scp", "ssh-keygen", "unshare", "mount")

# Its own user: sshd needs more rights to start a session for anyone else.
ACCOUNT = "root"

EXIT_CODE = 7  # Exit code of the session; ssh returns it once all data has arrived

NAME = "target.example"  # The client's name for the server's key, whatever the address and port

# Uses nothing of this machine's configuration; unlisted settings have OpenSSH's defaults.
SERVER = """Port {port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
PrintMotd no
Subsystem sftp internal-sftp
"""

# Runs as root of a private mount namespace: sshd needs /run/sshd, and accounts that are not locked.
ROOM = """mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd &&
mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/shadow" /etc/shadow && exec "$@"
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    return [program for program in PROGRAMS if _which(program) is None]


def prepare(directory: Path) -> None:
    """Create keys for both sides, and the accounts. The directory must belong to nobody else."""
    directory.mkdir(mode=0o700)
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    host_key = (directory / "host.pub").read_text(encoding="ascii")
    (directory / "known").write_text(f"{NAME} {host_key}", encoding="ascii")
    (directory / "passwd").write_text(
        f"{ACCOUNT}:x:0:0::{directory}:/bin/sh\nsshd:x:65533:65533::/run/sshd:/bin/false\n", encoding="ascii"
    )
    (directory / "shadow").write_text(f"{ACCOUNT}:*:1::::::\nsshd:*:1::::::\n", encoding="ascii")


def serve(task: Task) -> None:
    """The target's half becomes `sshd -D -e`, which itself prints that it is listening."""
    config = Path(task.directory, "sshd_config")
    config.write_text(SERVER.format(port=task.port, directory=task.directory), encoding="utf-8")
    sshd = ["sh", "-c", ROOM, task.directory, _which("sshd") or "sshd", "-D", "-e", "-f", str(config)]
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *sshd])


def use(task: Task) -> dict[str, Any]:
    """The user's half: milliseconds from each line typed to its answer, Mbit/s of scp in both directions."""
    began_s = time.monotonic()
    with _ssh(task, "sh") as session:
        times_ms = [_type(session, task, number) for number in range(task.count)]
        took_s = time.monotonic() - began_s
        _finish(session, task)
    content = random.Random(task.seed).randbytes(task.size_bytes)
    _pipe(task, content)
    here, there, back = (Path(task.directory, name) for name in ("here", "there", "back"))
    here.write_bytes(content)
    began_s = time.monotonic()
    host = f"[{task.host}]" if ":" in task.host else task.host
    _scp(task, str(here), f"{ACCOUNT}@{host}:{shlex.quote(str(there))}")
    _scp(task, f"{ACCOUNT}@{host}:{shlex.quote(str(there))}", str(back))
    seconds = time.monotonic() - began_s
    if there.read_bytes() != content or back.read_bytes() != content:
        raise Damaged("scp brought back another file than it took")
    return {
        "errors": [],
        "session_s": took_s,
        "bytes": 4 * task.size_bytes,
        "mbit_s": 2 * task.size_bytes * 8 / 1e6 / seconds,
        "times_ms": base.distribution(times_ms),
    }


def _ssh(task: Task, command: str) -> subprocess.Popen[bytes]:
    words = ["ssh", *_options(task), "-p", str(task.port), f"{ACCOUNT}@{task.host}", command]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _type(session: subprocess.Popen[bytes], task: Task, number: int) -> float:
    """Type one line to the remote shell; the answer needs a calculation, so that an echo is not enough."""
    assert session.stdin is not None and session.stdout is not None
    sent_s = time.monotonic()
    session.stdin.write(f"echo $(({number} * 7 + {task.seed}))\n".encode())
    session.stdin.flush()
    answer = session.stdout.readline()
    if answer != f"{number * 7 + task.seed}\n".encode():
        session.kill()
        raise Damaged(f"line {number} was answered by {answer!r}; {_said(session)}")
    return (time.monotonic() - sent_s) * 1e3


def _finish(session: subprocess.Popen[bytes], task: Task) -> None:
    assert session.stdin is not None and session.stdout is not None
    session.stdin.write(f"exit {EXIT_CODE}\n".encode())
    session.stdin.close()
    rest = session.stdout.read()
    if session.wait(task.patience_s) != EXIT_CODE or rest:
        raise Damaged(f"the session ended with {session.returncode} and {rest!r}; {_said(session)}")


def _pipe(task: Task, content: bytes) -> None:
    """Send every byte value and an end, and expect them back: the session must not alter its data."""
    with _ssh(task, "cat") as session:
        back, said = session.communicate(content, task.patience_s)
    if session.returncode or back != content:
        raise Damaged(
            f"{len(back)} of {len(content)} bytes came back through the pipe; {said.decode()[-200:]}"
        )


def _scp(task: Task, source: str, target: str) -> None:
    words = ["scp", "-q", *_options(task), "-P", str(task.port), source, target]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, timeout=task.patience_s, check=False
    )
    if done.returncode:
        raise Damaged(f"scp: {done.stderr.decode(errors='replace').strip()[-200:]}")


def _options(task: Task) -> list[str]:
    """Options that exclude this machine's and user's configuration, keys and known hosts."""
    settings = {
        "IdentityFile": f"{task.directory}/user",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f"{task.directory}/known",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": NAME,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "LogLevel": "ERROR",
    }
    return ["-F", "none", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]


def _said(session: subprocess.Popen[bytes]) -> str:
    assert session.stderr is not None
    return session.stderr.read().decode(errors="replace").strip()[-200:]


def _which(program: str) -> str | None:
    # sshd must be called by its full path, which is not in everyone's PATH.
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
