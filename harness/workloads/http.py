"""A file over HTTP, fetched by the real curl. Task: size_bytes, seed."""

from __future__ import annotations

import hashlib
import http.server
import random
import socket
import subprocess
from typing import Any

from harness.workloads.base import Damaged, Task


class _Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


def serve(task: Task) -> None:
    """The target's half: one file under every name."""
    body = _body(task)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """The report is curl's."""

    with _Server(("::", task.port), Handler) as server:
        print("listening", flush=True)
        server.serve_forever()


def use(task: Task) -> dict[str, Any]:
    """The user's half: curl's own times."""
    host = f"[{task.host}]" if ":" in task.host else task.host
    form = "%{stderr}%{http_code} %{size_download} %{time_starttransfer} %{time_total}"
    words = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", form]
    done = subprocess.run([*words, f"http://{host}:{task.port}/file"], capture_output=True, check=False)
    if done.returncode:
        raise Damaged(f"curl: {done.stderr.decode(errors='replace').strip()}")
    code, size, first_s, total_s = done.stderr.decode().split()
    if code != "200" or hashlib.sha256(done.stdout).digest() != hashlib.sha256(_body(task)).digest():
        raise Damaged(f"the file differs from the one offered: code {code}, {size} bytes")
    return {
        "errors": [],
        "bytes": int(size),
        "first_byte_ms": float(first_s) * 1e3,
        "seconds": float(total_s),
        "mbit_s": int(size) * 8 / 1e6 / float(total_s),
    }


def _body(task: Task) -> bytes:
    return random.Random(task.seed).randbytes(task.size_bytes)
