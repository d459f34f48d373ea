"""Tells a service manager how the process is: sd_notify(3), one datagram for each change."""

from __future__ import annotations

import _socket
import contextlib
import os
import time
from collections.abc import MutableMapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

_MAX_STATUS_CHARS = 500  # A datagram must fit the socket, and a person reads one line


class ServiceManager:
    """The one that started this process, or nobody; then nothing is sent.

    Its variables are taken out of `environ`, so that no child of ours speaks for us.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        found = {name: environ.pop(name, "") for name in _VARIABLES}
        address = found["NOTIFY_SOCKET"]
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self.watchdog_s = 0.0  # How often it wants to hear of us at least; 0: not at all
        if found["WATCHDOG_USEC"].isdigit() and found["WATCHDOG_PID"] in ("", str(os.getpid())):
            self.watchdog_s = int(found["WATCHDOG_USEC"]) / 1e6

    @property
    def listens(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The process serves, after its start or after a reload."""
        self._send("READY=1", self._status_line(status))

    def reloading(self) -> None:
        """It rereads its configuration; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It is about to end."""
        self._send("STOPPING=1", self._status_line("flows are finishing"))

    def status(self, status: str) -> None:
        """How it is, in one line; sent if that has changed."""
        if status != self._status:
            self._send(self._status_line(status))

    def alive(self) -> None:
        """To be called more often than `watchdog_s`."""
        self._send("WATCHDOG=1")

    def _status_line(self, status: str) -> str:
        self._status = status
        return "STATUS=" + " ".join(status.split())[:_MAX_STATUS_CHARS]

    def _send(self, *lines: str) -> None:
        """Never waits and never raises: a manager that does not listen is no reason to stop the traffic."""
        if not self._address:
            return
        with contextlib.suppress(OSError):
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
            with contextlib.closing(sock):
                sock.setblocking(False)
                sock.connect(self._address)
                sock.send("\n".join(lines).encode())
