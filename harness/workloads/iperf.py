"""The real iperf3: two TCP connections at once, one of them silent for most of the time.

Task: way (up, down), seconds, flows, congestion.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from harness.workloads.base import Damaged, Task


def serve(task: Task) -> None:
    """The target's half becomes `iperf3 -s`, which itself prints that it is listening."""
    os.execvp("iperf3", ["iperf3", "--server", "--port", str(task.port), "--forceflush"])


def use(task: Task) -> dict[str, Any]:
    """The user's half: what iperf3 reports as received."""
    words = ["iperf3", "--client", task.host, "--port", str(task.port), "--json"]
    words += ["--time", f"{task.seconds:.0f}", "--parallel", str(task.flows)]
    words += ["--reverse"] if task.way == "down" else []
    words += ["--congestion", task.congestion] if task.congestion else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    if done.returncode:
        raise Damaged(f"iperf3: {report.get('error')}")
    received = report["end"]["sum_received"]
    return {"errors": [], "bytes": received["bytes"], "mbit_s": received["bits_per_second"] / 1e6}
