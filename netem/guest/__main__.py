"""`python -m netem.guest [COMMAND …]`: run shell commands in a guest kernel that has netem.

The guest sees this machine's files, read-only, as root of its own; /run is its only place to write. Without
commands it checks netem/tc.py against the kernel. The exit code is that of the first command that failed;
77 when there is no guest kernel to be had here: then nothing was verified, and it says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INIT = Path(__file__).with_name("init")

KERNEL = "linux.uml"
PACKAGES = ("user-mode-linux", "kmod")
MEMORY = "512M"
LIMIT_S = 420

NOT_VERIFIED = 77  # Exit code, as test suites of Make know it: skipped, which is not passed

# What the guest kernel says on a machine without its usual hardware.
NOISE = re.compile(r"SELinux|mmapper_init|ubd device 0|sysrq: Power Off|reboot: Power down|^\s*$")


def main(words: Sequence[str]) -> int:
    verify = f"{shlex.quote(sys.executable)} -m netem.guest.verify"
    commands = list(words) or [verify]
    reason = why_not()
    if reason:
        print(f"netem in a guest kernel: NOT VERIFIED, {reason}", file=sys.stderr)
        # Continuous integration is there to verify: where it could install the guest, it must have.
        return 1 if os.environ.get("CI") and installable() else NOT_VERIFIED
    signal.signal(signal.SIGTERM, _leave)  # so that the guest ends then, too
    with tempfile.TemporaryDirectory(prefix="kcpg-guest-") as directory:
        return run(commands, Path(directory))


def why_not() -> str:
    """Why there is no guest kernel, after trying to install it where that is possible; "": there is."""
    if there_is():
        return ""
    if not installable():
        return f"{KERNEL} is not installed (Debian: apt-get install {' '.join(PACKAGES)})"
    print(f"installing {' '.join(PACKAGES)} …", flush=True)
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *PACKAGES]):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["apt-get", *command], env=environ, capture_output=True, text=True, check=False)
    return (
        "" if shutil.which(KERNEL) else f"{' '.join(PACKAGES)} did not install: {done.stderr.strip()[-300:]}"
    )


def there_is() -> bool:
    """Whether a guest kernel and what loads its modules are installed."""
    return shutil.which(KERNEL) is not None and shutil.which("modprobe") is not None


def installable() -> bool:
    """Whether this is root on a system with apt, and a machine that the package is made for."""
    return (
        os.geteuid() == 0 and shutil.which("apt-get") is not None and os.uname().machine in ("x86_64", "i686")
    )


def run(commands: Sequence[str], directory: Path) -> int:
    """Boot, run, and return the exit code; what the guest writes is passed on as it comes."""
    job = directory / "job"
    lines = [f"cd {shlex.quote(str(ROOT))} || exit 1", *(f"{command} || exit" for command in commands)]
    job.write_text("\n".join(lines) + "\n", encoding="utf-8")
    argv = [KERNEL, f"mem={MEMORY}", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}"]
    argv += ["con=null", "con0=null,fd:1", "con1=null", "quiet", f"uml_dir={directory}", "--", str(job)]
    guest = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    alarm = threading.Timer(LIMIT_S, _end, [guest])
    alarm.start()
    code = None
    try:
        assert guest.stdout is not None
        for line in guest.stdout:
            found = re.match(r"GUEST-EXIT=(\d+)", line)
            if found:
                code = int(found[1])
            elif not NOISE.search(line):
                print(line, end="", flush=True)
    finally:
        alarm.cancel()
        _end(guest)
    if code is None:
        print(f"netem in a guest kernel: it did not come to its end within {LIMIT_S} s", file=sys.stderr)
    return 1 if code is None else code


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _end(guest: subprocess.Popen[str]) -> None:
    """A guest kernel is several processes: only the whole group ends without leaving some behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guest.pid, signal.SIGKILL)
    guest.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
