"""`python -m harness.workloads NAME serve|use TASK`: one half of a workload, the task as JSON.

`serve` prints `listening` and runs until it is ended; `use` prints its report as the last line. Exit code 1:
the data was wrong or did not arrive.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from subprocess import SubprocessError

from harness.workloads import (
    bulk,
    dns,
    game,
    half_close,
    http,
    iperf,
    latency,
    server_first,
    short,
    slow_reader,
    ssh,
)
from harness.workloads.base import Damaged, Task

WORKLOADS = {
    "bulk": bulk,
    "dns": dns,
    "game": game,
    "half-close": half_close,
    "http": http,
    "iperf": iperf,
    "latency": latency,
    "server-first": server_first,
    "short": short,
    "slow-reader": slow_reader,
    "ssh": ssh,
}


def main(words: Sequence[str]) -> int:
    """Run one half."""
    name, half, text = words
    workload, task = WORKLOADS[name], Task(**json.loads(text))
    if half == "serve":
        workload.serve(task)
        return 0
    try:
        report = workload.use(task)
    except (OSError, Damaged, SubprocessError) as error:
        report = {"errors": [f"{type(error).__name__}: {error}"]}
    print(json.dumps(report), flush=True)
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
