"""What two nodes agree on when they meet: the parameters of a link, how they travel, how they are settled.

Parameters travel as fields of type u8, length u8, value (big-endian). Unknown fields are skipped, missing
ones have the default, so that either side may be newer than the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from kcpg.core.fec.code import MAX_SHARDS
from kcpg.core.native.wire.frames import pack_text, read_text
from kcpg.core.seal.seal import ALGORITHMS

VERSION = 1
DELIVERIES = ("unordered", "ordered", "datagram")  # of users' packets; the numbers travel

MIN_DATAGRAM_BYTES = 256  # less leaves no room worth having; any path that carried an INIT carries more
MAX_DATAGRAM_BYTES = 65507  # what UDP over IPv4 carries
MOST_FOUND_BYTES = 8972  # where the path decides: what jumbo Ethernet, 9,000, carries
MAX_WINDOW = 65535  # what a KCP segment can advertise
MAX_PORT_RANGES = 15
MAX_VERDICT_BYTES = 160  # of text; fits the shortest INIT, which a RESP is never longer than
PROOF_BYTES = 32
DIALER_BYTES = 16
LIFE_BYTES = 8

_VERSION, _ALGORITHM, _DATAGRAM, _SND_WND, _RCV_WND, _OUT_BPS, _IN_BPS = range(1, 8)
_KEEP_ALIVE, _DELIVERY, _FEC_OUT, _PORTS, _RESUME, _VERDICT, _FEC_IN, _DIALER, _AGAIN = range(8, 17)
_ACCEPTED, _RESUMED = 1, 2


class Fec(NamedTuple):
    """With how much redundancy one side sends: D:R, FEC_OFF or FEC_AUTO."""

    data: int
    parity: int

    def __str__(self) -> str:
        if self == FEC_AUTO:
            return "auto"
        return f"{self.data}:{self.parity}" if self.data and self.parity else "off"


# AUTO: by the losses that the other side reports. As a code it would be too large.
FEC_OFF, FEC_AUTO = Fec(0, 0), Fec(255, 255)


@dataclass(frozen=True, slots=True)
class LinkParams:
    """The parameters of a link, always as the dialer sees them: what it sends is outbound."""

    version: int = VERSION
    algorithm: str = "AES-GCM"
    datagram_bytes: int = 1400  # largest UDP payload that either side receives
    snd_wnd: int = 1024  # segments per conversation, dialer to listener
    rcv_wnd: int = 1024  # segments per conversation, listener to dialer
    outbound_bps: int = 0  # bits per second, 0: not limited
    inbound_bps: int = 0
    keep_alive_s: int = 0  # 0: not configured
    udp_delivery: str = "unordered"
    fec_out: Fec = FEC_OFF  # each side decides what it sends with, and the other has to know of AUTO only
    fec_in: Fec = FEC_OFF
    ports: tuple[tuple[int, int], ...] = ()  # the listener's port ranges, first and last; empty: not told

    def mirrored(self) -> LinkParams:
        """The same link seen from its other end."""
        return replace(
            self,
            snd_wnd=self.rcv_wnd,
            rcv_wnd=self.snd_wnd,
            outbound_bps=self.inbound_bps,
            inbound_bps=self.outbound_bps,
            fec_out=self.fec_in,
            fec_in=self.fec_out,
        )

    def fec_text(self) -> str:
        """For a log line, empty if neither side uses it."""
        either = str(self.fec_out) != "off" or str(self.fec_in) != "off"
        return f", fec {self.fec_out} out, {self.fec_in} in" if either else ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The listener's answer in words: whether it takes the link, and what it changed or why not."""

    accepted: bool
    text: str = ""  # for both sides' logs; empty: as asked
    resumed: bool = False  # the old link's conversations live on
    again_ms: int = 0  # refused, but not for good: when to ask again. 0: not told


class Incarnation(NamedTuple):
    """Who a dialer is over its restarts, 16 bytes; and the life that it has between two of them, 8 bytes."""

    dialer: bytes
    life: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """The payload of noise message 1."""

    params: LinkParams
    resume_cid: int | None = None  # the listener's CID of the link to resume
    proof: bytes = b""
    incarnation: Incarnation | None = None  # None: the dialer does not tell


def negotiate(offer: LinkParams, mine: LinkParams) -> tuple[LinkParams, Verdict]:
    """The listener's decision: what both will use (as the dialer sees it), and what to say about it.

    `mine` is the listener's configuration as the listener sees it. The data cipher is never negotiated: where
    it differs, the link is refused.
    """
    if offer.version != mine.version:
        return mine, Verdict(False, f"protocol version: you {offer.version}, here {mine.version}")
    if offer.algorithm != mine.algorithm:
        return mine, Verdict(False, f"encryption_algorithm: you {offer.algorithm}, here {mine.algorithm}")
    theirs = mine.mirrored()
    notes = []
    if str(offer.fec_out) != str(mine.fec_out):
        notes.append(f"fec: you {offer.fec_out}, here {mine.fec_out}; each sends by its own")
    agreed = replace(
        offer,
        datagram_bytes=min(offer.datagram_bytes, theirs.datagram_bytes),
        snd_wnd=min(offer.snd_wnd, theirs.snd_wnd),
        rcv_wnd=min(offer.rcv_wnd, theirs.rcv_wnd),
        outbound_bps=lower_limit(offer.outbound_bps, theirs.outbound_bps),
        inbound_bps=lower_limit(offer.inbound_bps, theirs.inbound_bps),
        keep_alive_s=lower_limit(offer.keep_alive_s, theirs.keep_alive_s),
        fec_in=theirs.fec_in,
        ports=mine.ports,
    )
    if agreed.datagram_bytes < offer.datagram_bytes < MOST_FOUND_BYTES:  # more: the dialer asks for nothing
        notes.append(f"mtu: you {offer.datagram_bytes}, here {mine.datagram_bytes}; using the smaller")
    return agreed, Verdict(True, "; ".join(notes))


def within(offer: LinkParams, answer: LinkParams) -> LinkParams:
    """The answer, cut to the offer: every holder of the key can be a listener, and may ask for more.

    What belongs to the listener (its FEC, its ports) is its own; the limits are the lower ones of both.
    """
    return replace(
        offer,
        datagram_bytes=min(offer.datagram_bytes, answer.datagram_bytes),
        snd_wnd=min(offer.snd_wnd, answer.snd_wnd),
        rcv_wnd=min(offer.rcv_wnd, answer.rcv_wnd),
        outbound_bps=lower_limit(offer.outbound_bps, answer.outbound_bps),
        inbound_bps=lower_limit(offer.inbound_bps, answer.inbound_bps),
        keep_alive_s=lower_limit(offer.keep_alive_s, answer.keep_alive_s),
        fec_in=answer.fec_in,
        ports=answer.ports,
    )


def pack_offer(offer: Offer) -> bytes:
    """The payload of noise message 1."""
    fields = _pack_params(offer.params)
    if offer.resume_cid is not None:
        fields += _field(_RESUME, offer.resume_cid.to_bytes(4, "big") + offer.proof)
    if offer.incarnation is not None:
        fields += _field(_DIALER, b"".join(offer.incarnation))
    return fields


def read_offer(data: bytes) -> Offer | None:
    """What `pack_offer` made; None if malformed."""
    fields = _fields(data)
    params = _read_params(fields) if fields is not None else None
    if fields is None or params is None:
        return None
    resume, dialer = fields.get(_RESUME), fields.get(_DIALER)
    if resume is not None and len(resume) != 4 + PROOF_BYTES:
        return None
    if dialer is not None and len(dialer) != DIALER_BYTES + LIFE_BYTES:
        return None
    incarnation = Incarnation(dialer[:DIALER_BYTES], dialer[DIALER_BYTES:]) if dialer is not None else None
    if resume is None:
        return Offer(params, incarnation=incarnation)
    return Offer(params, int.from_bytes(resume[:4], "big"), resume[4:], incarnation)


def pack_answer(server_cid: int, params: LinkParams, verdict: Verdict) -> bytes:
    """The payload of noise message 2."""
    flags = (_ACCEPTED if verdict.accepted else 0) | (_RESUMED if verdict.resumed else 0)
    text = bytes((flags,)) + pack_text(verdict.text, MAX_VERDICT_BYTES)
    fields = _pack_params(params) + _field(_VERDICT, text)
    if verdict.again_ms:
        fields += _field(_AGAIN, verdict.again_ms.to_bytes(4, "big"))
    return server_cid.to_bytes(4, "big") + fields


def read_answer(data: bytes) -> tuple[int, LinkParams, Verdict] | None:
    """What `pack_answer` made; None if malformed."""
    fields = _fields(data[4:])
    params = _read_params(fields) if fields is not None else None
    if len(data) < 4 or fields is None or params is None or not fields.get(_VERDICT):
        return None
    flags = fields[_VERDICT][0]
    text = read_text(fields[_VERDICT][1:])
    if text is None:
        return None
    return (
        int.from_bytes(data[:4], "big"),
        params,
        Verdict(
            bool(flags & _ACCEPTED),
            text,
            bool(flags & _RESUMED),
            int.from_bytes(fields.get(_AGAIN, b""), "big"),
        ),
    )


def _pack_params(p: LinkParams) -> bytes:
    assert len(p.ports) <= MAX_PORT_RANGES
    numbers = (
        (_VERSION, 1, p.version),
        (_ALGORITHM, 1, ALGORITHMS.index(p.algorithm)),
        (_DATAGRAM, 2, p.datagram_bytes),
        (_SND_WND, 4, p.snd_wnd),
        (_RCV_WND, 4, p.rcv_wnd),
        (_OUT_BPS, 8, p.outbound_bps),
        (_IN_BPS, 8, p.inbound_bps),
        (_KEEP_ALIVE, 2, p.keep_alive_s),
        (_DELIVERY, 1, DELIVERIES.index(p.udp_delivery)),
        (_FEC_OUT, 2, p.fec_out.data << 8 | p.fec_out.parity),
        (_FEC_IN, 2, p.fec_in.data << 8 | p.fec_in.parity),
    )
    fields = b"".join(_field(kind, value.to_bytes(size, "big")) for kind, size, value in numbers)
    if p.ports:
        fields += _field(_PORTS, b"".join(a.to_bytes(2, "big") + b.to_bytes(2, "big") for a, b in p.ports))
    return fields


def _read_params(fields: dict[int, bytes]) -> LinkParams | None:
    """From the fields a peer sent; None if a value is out of its range."""
    default = LinkParams()

    def number(kind: int, otherwise: int) -> int:
        return int.from_bytes(fields[kind], "big") if kind in fields else otherwise

    algorithm = number(_ALGORITHM, ALGORITHMS.index(default.algorithm))
    delivery = number(_DELIVERY, DELIVERIES.index(default.udp_delivery))
    fec_out, fec_in = number(_FEC_OUT, 0), number(_FEC_IN, 0)
    if algorithm >= len(ALGORITHMS) or delivery >= len(DELIVERIES) or max(fec_out, fec_in) > 0xFFFF:
        return None
    ports = _read_ports(fields.get(_PORTS, b""))
    params = LinkParams(
        version=number(_VERSION, VERSION),
        algorithm=ALGORITHMS[algorithm],
        datagram_bytes=number(_DATAGRAM, default.datagram_bytes),
        snd_wnd=number(_SND_WND, default.snd_wnd),
        rcv_wnd=number(_RCV_WND, default.rcv_wnd),
        outbound_bps=number(_OUT_BPS, 0),
        inbound_bps=number(_IN_BPS, 0),
        keep_alive_s=number(_KEEP_ALIVE, 0),
        udp_delivery=DELIVERIES[delivery],
        fec_out=Fec(fec_out >> 8, fec_out & 0xFF),
        fec_in=Fec(fec_in >> 8, fec_in & 0xFF),
        ports=ports or (),
    )
    return params if ports is not None and _in_range(params) else None


def _in_range(p: LinkParams) -> bool:
    return (
        MIN_DATAGRAM_BYTES <= p.datagram_bytes <= MAX_DATAGRAM_BYTES
        and 1 <= p.snd_wnd <= MAX_WINDOW
        and 1 <= p.rcv_wnd <= MAX_WINDOW
        and max(p.outbound_bps, p.inbound_bps) < 1 << 64
        and p.keep_alive_s < 1 << 16
        and p.version < 1 << 8
        and all(fec == FEC_AUTO or sum(fec) <= MAX_SHARDS for fec in (p.fec_out, p.fec_in))
    )


def _read_ports(data: bytes) -> tuple[tuple[int, int], ...] | None:
    words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
    pairs = tuple(zip(words[::2], words[1::2], strict=False))
    whole = len(data) == 4 * len(pairs) and len(pairs) <= MAX_PORT_RANGES
    return pairs if whole and all(0 < first <= last for first, last in pairs) else None


def _field(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def _fields(data: bytes) -> dict[int, bytes] | None:
    """The fields by type; None if one is cut short or comes twice."""
    found: dict[int, bytes] = {}
    for kind, value in _split(data):
        if value is None or kind in found:
            return None
        found[kind] = value
    return found


def _split(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    while data:
        end = 2 + data[1] if len(data) > 1 else len(data) + 1
        yield data[0], data[2:end] if end <= len(data) else None
        data = data[end:]


def lower_limit(a: int, b: int) -> int:
    """The smaller of two limits of which 0 means none."""
    return min(a, b) if a and b else a or b
