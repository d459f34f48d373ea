"""The engine's parts, each by itself: AEAD, KCP, FEC, splice. `make bench ONLY=micro` measures them.

With the other tests each runs once, which shows that it still does what is measured.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from kcpg.core.fec.plan import Plan
from kcpg.core.flow import Flow, Kind, Open, Reset
from kcpg.core.kcp.params import KcpParams
from kcpg.core.splice import Splice
from tests.engines import twin

BATCH = 64
DATAGRAM_BYTES = 1400
KCP_MTU = 1376
PARAMS = KcpParams(nodelay=1, interval_ms=10, resend=2, snd_wnd=1024, rcv_wnd=1024)
ROUNDS = 100
ALGORITHMS = ("AES-GCM", "AES-OCB", "chacha20", "none")
NOW_MS = 1000


def per(benchmark: Any, unit: str, count: int, bytes_each: int = 0) -> None:
    """What a call of the measured function stands for."""
    benchmark.extra_info.update(unit=unit, count=count, bytes=bytes_each)


@pytest.mark.parametrize("size", [DATAGRAM_BYTES, 64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seal(benchmark: Any, engine: str, algorithm: str, size: int) -> None:
    sealer = twin(engine, "Sealer")(algorithm, bytes(32), bytes(12))
    plain = random.Random(size).randbytes(size)
    per(benchmark, "datagram", BATCH, size)

    def seal() -> None:
        for number in range(BATCH):
            sealer.seal(number, b"head", plain)

    benchmark(seal)
    assert sealer.open(7, b"head", sealer.seal(7, b"head", plain)) == plain


@pytest.mark.parametrize("size", [DATAGRAM_BYTES, 64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_open(benchmark: Any, engine: str, algorithm: str, size: int) -> None:
    sealer = twin(engine, "Sealer")(algorithm, bytes(32), bytes(12))
    plain = random.Random(size).randbytes(size)
    sealed = [sealer.seal(number, b"head", plain) for number in range(BATCH)]
    per(benchmark, "datagram", BATCH, size)

    def open_all() -> list[bytes | None]:
        return [sealer.open(number, b"head", one) for number, one in enumerate(sealed)]

    assert benchmark(open_all) == [plain] * BATCH


class Kcps:
    """Two conversations that exchange a batch, in time that stands still but for a step a batch."""

    def __init__(self, engine: str) -> None:
        kcp = twin(engine, "Kcp")
        self.left, self.right = (kcp(7, KCP_MTU, PARAMS) for _ in range(2))
        self.now_ms = NOW_MS
        self.datagrams: list[bytes] = []

    def fill(self) -> None:
        """What went before arrives and is acknowledged; then a batch waits to be flushed."""
        self.now_ms += 1
        for datagram in self.datagrams:
            self.right.input(datagram, self.now_ms)
        self.right.read(1 << 20)
        for acknowledgement in self.right.flush(self.now_ms):
            self.left.input(acknowledgement, self.now_ms)
        assert self.left.write(bytes(BATCH * (KCP_MTU - 24)))
        self.datagrams = []

    def flush(self) -> None:
        self.datagrams = self.left.flush(self.now_ms)

    def input(self) -> None:
        for datagram in self.datagrams:
            self.right.input(datagram, self.now_ms)

    def whole(self) -> None:
        self.fill()
        self.flush()


def test_kcp_flush(benchmark: Any, engine: str) -> None:
    pair = Kcps(engine)
    per(benchmark, "segment", BATCH)
    benchmark.pedantic(pair.flush, setup=pair.fill, rounds=ROUNDS)
    assert BATCH / 2 < len(pair.datagrams) <= BATCH + 1


def test_kcp_input(benchmark: Any, engine: str) -> None:
    pair = Kcps(engine)
    per(benchmark, "segment", BATCH)
    benchmark.pedantic(pair.input, setup=pair.whole, rounds=ROUNDS)
    assert pair.right.segments_received >= BATCH - 1


@pytest.mark.parametrize("code", [(10, 3), (64, 10)], ids=lambda code: f"{code[0]}+{code[1]}")
def test_fec_encode(benchmark: Any, engine: str, code: tuple[int, int]) -> None:
    encoder = twin(engine, "Code")(*code)
    rng = random.Random(1)
    blocks = [rng.randbytes(DATAGRAM_BYTES) for _ in range(code[0])]
    per(benchmark, "data shard", code[0], DATAGRAM_BYTES)
    assert len(benchmark(encoder.encode, blocks)) == code[1]


@pytest.mark.parametrize("code", [(10, 3), (64, 10)], ids=lambda code: f"{code[0]}+{code[1]}")
def test_fec_recover(benchmark: Any, engine: str, code: tuple[int, int]) -> None:
    data, lost = code[0], 3
    encoder = twin(engine, "Code")(*code)
    rng = random.Random(1)
    blocks = [rng.randbytes(DATAGRAM_BYTES) for _ in range(data)]
    shards = dict(list(enumerate([*blocks, *encoder.encode(blocks)]))[lost : data + lost])
    per(benchmark, "data shard", data, DATAGRAM_BYTES)
    assert benchmark(encoder.recover, shards) == dict(enumerate(blocks[:lost]))


def test_fec_groups(benchmark: Any, engine: str) -> None:
    """A group of 20 + 4 through sender and receiver, one shard missing."""
    sender, receiver = (
        twin(engine, "GroupSender")(DATAGRAM_BYTES),
        twin(engine, "GroupReceiver")(DATAGRAM_BYTES),
    )
    sender.use(Plan(20, (0, *[4] * 20)))
    block = random.Random(1).randbytes(DATAGRAM_BYTES)
    per(benchmark, "datagram", 20, DATAGRAM_BYTES)

    def group() -> None:
        for index in range(20):
            frame = sender.protect(block, NOW_MS)
            if index:
                receiver.receive_data(frame)
        while (frame := sender.parity()) is not None:
            receiver.receive_parity(frame)

    benchmark(group)
    assert receiver.recovered and not receiver.lost


class Memory(Flow):
    """Gives the same piece for ever and takes everything."""

    PIECE = bytes(1 << 16)

    def __init__(self, gives: bool) -> None:
        super().__init__(Kind.TCP)
        self._gives = gives
        self.taken = 0

    def offer(self) -> None:
        self._gives = True

    def read(self, limit: int) -> bytes | None:
        if not self._gives:
            return None
        self._gives = False
        return self.PIECE[:limit]

    @property
    def room(self) -> int:
        return 1 << 20

    def write(self, data: bytes) -> int:
        self.taken += len(data)
        return len(data)

    def end(self) -> None:
        raise AssertionError("nothing ends here")

    def reset(self, reason: Reset) -> None:
        raise AssertionError(reason)


def test_splice(benchmark: Any) -> None:
    source, sink = Memory(False), Memory(False)
    splice = Splice(source, sink, Open(Kind.TCP, None, "micro"))
    per(benchmark, "pump", 1, len(Memory.PIECE))

    def pump() -> None:
        source.offer()
        splice.pump(source)

    benchmark(pump)
    assert sink.taken and sink.taken % len(Memory.PIECE) == 0
