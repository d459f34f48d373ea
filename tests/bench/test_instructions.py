"""The machine instructions of the engine's hot loops, counted by callgrind: the same in every run.

A clock on a shared machine cannot say whether a loop has become slower; a count can. What is counted is KCP's
flush and input with all that they call. Not AEAD: its instructions are OpenSSL's, others with each version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import require
from tests.needs import needs

MODULE = "kcpg.core.kcp._kcp"
FUNCTIONS = ("kcp_flush", "kcp_input")

SEGMENT_BYTES = 1352

MOST_EACH = 1200
"""For a segment on both sides, with its acknowledgement: 797 counted with gcc 12, half more for others."""

MOST_GROWTH = 1.25
"""Of the count for a segment, when eight times as many are under way: work does not grow with the window."""

EXCHANGE = """
import sys
from kcpg.core.kcp._kcp import Kcp
from kcpg.core.kcp.params import KcpParams
rounds, batch, size = map(int, sys.argv[1:])
params = KcpParams(nodelay=1, interval_ms=10, resend=2, snd_wnd=1024, rcv_wnd=1024)
left, right = Kcp(7, 1376, params), Kcp(7, 1376, params)
for round in range(rounds + 1):
    now_ms = 1000 + round
    segments = batch if round else 32  # the first answer tells the peer's window
    datagrams = []
    for _ in range(segments // 32):
        assert left.write(bytes(32 * size)) == 32 * size
        datagrams += left.flush(now_ms)
    for datagram in datagrams:
        right.input(datagram, now_ms)
    assert len(right.read(1 << 30)) == segments * size
    for datagram in right.flush(now_ms):
        left.input(datagram, now_ms)
assert left.segments_sent == rounds * batch + 32, left.segments_sent
"""


def counted(directory: Path, rounds: int, batch: int) -> int:
    """Instructions inside FUNCTIONS."""
    # Cython's names: each part of the module with its length before it.
    stem = "_".join(f"{len(part)}{part}" for part in MODULE.split("."))
    collect = [f"--toggle-collect=__pyx_f_{stem}_{name}" for name in FUNCTIONS]
    words = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory / 'out'}", *collect]
    words += [sys.executable, "-c", EXCHANGE, str(rounds), str(batch), str(SEGMENT_BYTES)]
    environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc"}
    done = subprocess.run(words, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr[-2000:]
    return int(found[1])


@pytest.fixture
def valgrind() -> None:
    """Skips without it; continuous integration installs it and must not skip."""
    require(MODULE)
    if shutil.which("valgrind") is None:
        if os.environ.get("CI"):
            pytest.fail("valgrind is missing; harness/prepare installs it", pytrace=False)
        pytest.skip(needs("valgrind"))


def test_a_segment_costs_so_much_however_many_are_under_way(valgrind: None, tmp_path: Path) -> None:
    few, many = (counted(tmp_path, 2560 // batch, batch) / 2592 for batch in (32, 256))
    print(f"instructions for a segment: {few:.0f} with 32 under way, {many:.0f} with 256")
    assert 100 < few <= MOST_EACH, "fewer than 100 would mean that the functions were not found"
    assert many <= few * MOST_GROWTH
