"""Speed of the erasure code, every kernel and zfec in the same run: `python -m tests.bench.fec_speed`.

GB/s of data shards that pass: 1,400-byte blocks, process CPU time, the best of several rounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import zfec

from kcpg.core.fec import _fec
from kcpg.core.fec.plan import Plan

BLOCK_BYTES = 1400
ROUNDS, ROUND_S = 5, 0.05


def gigabytes_per_s(work: Callable[[], object], data_bytes: int) -> float:
    """The fastest of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        calls, start = 0, time.process_time()
        while (spent := time.process_time() - start) < ROUND_S:
            for _ in range(8):
                work()
            calls += 8
        best = max(best, calls * data_bytes / spent / 1e9)
    return best


def measure(data: int, parity: int, lost: int) -> list[str]:
    """Encoding and rebuilding of one code: zfec's row, then each kernel's."""
    rng = random.Random(0)
    blocks = [rng.randbytes(BLOCK_BYTES) for _ in range(data)]
    size = data * BLOCK_BYTES
    their_encoder, their_decoder = zfec.Encoder(data, data + parity), zfec.Decoder(data, data + parity)
    numbers = list(range(data, data + parity))
    extra = their_encoder.encode(blocks, numbers)
    there = dict(list(enumerate([*blocks, *extra]))[lost : data + lost])
    # zfec wants a data shard that is there at its own place in the list.
    order = [n if n in there else data + n for n in range(data)]
    their_shards = [there[n] for n in order]
    encoding = gigabytes_per_s(lambda: their_encoder.encode(blocks, numbers), size)
    rebuilding = gigabytes_per_s(lambda: their_decoder.decode(their_shards, order), size)
    lines = [f"{data}:{parity:<3} zfec      encode {encoding:6.2f}  rebuild {lost} {rebuilding:6.2f}"]
    code = _fec.Code(data, parity)
    assert code.encode(blocks) == extra
    for kernel in _fec.kernels():
        _fec.use_kernel(kernel)
        encoding = gigabytes_per_s(lambda: code.encode(blocks), size)
        rebuilding = gigabytes_per_s(lambda: code.recover(there), size)
        both = gigabytes_per_s(groups(data, parity, blocks, lost), size)
        lines.append(
            f"{data}:{parity:<3} {kernel:9} encode {encoding:6.2f}  rebuild {lost} {rebuilding:6.2f}"
            f"  both, in groups {both:6.2f}"
        )
    _fec.use_kernel(_fec.kernels()[0])
    return lines


def groups(data: int, parity: int, blocks: list[bytes], lost: int) -> Callable[[], object]:
    """A whole group through sender and receiver, the first `lost` data shards missing."""
    sender: Any = _fec.GroupSender(BLOCK_BYTES)
    receiver: Any = _fec.GroupReceiver(BLOCK_BYTES)
    sender.use(Plan(data, (0, *[parity] * data)))

    def work() -> None:
        for index, block in enumerate(blocks):
            frame = sender.protect(block, 0)
            if index >= lost:
                receiver.receive_data(frame)
        while (frame := sender.parity()) is not None:
            receiver.receive_parity(frame)

    work()
    assert receiver.recovered == lost
    return work


def main() -> None:
    """Print the table."""
    for data, parity, lost in ((10, 3, 3), (20, 4, 3), (64, 10, 3)):
        print("\n".join(measure(data, parity, lost)), flush=True)


if __name__ == "__main__":
    main()
