"""KCP against KCP over a line that the input is, with segments of its own; both engines, in step."""

from __future__ import annotations

from kcpg.core.kcp.kcp import KcpParams
from tests.fuzz.draw import Draw, magnitude
from tests.property.test_kcp_differential import Twins
from tests.unit.kcp_pair import segment

WINDOWS = (1, 4, 32, 300)
SIZES = (25, 48, 124, 1400)
PUSH, ACK = 81, 82
STEPS = 200


def run(data: bytes) -> object:
    """Two ends, each of both engines; whatever comes, they agree and keep to their windows."""
    draw = Draw(data)
    flags = draw.number()
    params = KcpParams(
        nodelay=draw.below(3), interval_ms=draw.pick((0, 1, 10, 30)), resend=draw.below(4),
        nc=bool(flags & 1), snd_wnd=draw.pick(WINDOWS), rcv_wnd=draw.pick(WINDOWS),
    )  # fmt: skip
    sn, mtu = draw.pick((0, 2**31 - 20, 2**32 - 20)), draw.pick(SIZES)
    ends = [Twins(params, mtu, sn), Twins(params, mtu, sn)]
    if flags & 2:
        ends[0].put("mark_first", True)
    for end in ends:
        end.put("ack_maps", bool(flags & 4))
    lines: list[list[bytes]] = [[], []]
    now = draw.pick((0, 2**31 - 500, 2**32 - 500))
    for _ in range(STEPS):
        if not draw.more:
            break
        now += _act(draw, ends, lines, now, mtu)
    told = tuple(magnitude(getattr(end.both[0], name)) for end in ends for name in _FACTS)
    for end in ends:
        assert end.both[1].payloads_held <= 2 * (end.both[0].rcv_wnd + end.both[0].queued + STEPS * 200)
        end.do("clear")
        assert end.both[1].payloads_held == 0
    return told


_FACTS = (
    "segments_sent",
    "segments_received",
    "segments_refused",
    "duplicates_received",
    "segments_resent_rto",
)


def _act(draw: Draw, ends: list[Twins], lines: list[list[bytes]], now: int, mtu: int) -> int:
    """One thing; returns the time that it takes in ms."""
    which = draw.below(2)
    end = ends[which]
    match draw.below(14):
        case 0 if end.both[0].room:
            end.do("write", draw.blob(3000))
        case 1:
            end.do("send", draw.blob(min(700, 120 * (mtu - 24))))
        case 2:
            end.do("recv")
        case 3:
            end.do("read", draw.pick((0, 1, 50, 100_000)))
        case 4 | 5:
            lines[which] += end.do("flush", now, draw.pick((None, 0, 30, 500, 100_000)))
        case 6 | 7 | 8 if lines[1 - which]:
            at = draw.below(len(lines[1 - which]))
            datagram = lines[1 - which][at] if draw.below(8) == 7 else lines[1 - which].pop(at)
            end.do("input", datagram, now)
        case 9:
            end.do("input", _hostile(draw, end), now)
        case 10:
            end.do("input", draw.bytes(draw.below(60)), now)
        case 11:
            del lines[which][: draw.below(8)]
        case 12 if draw.below(4) == 3:
            match draw.below(4):
                case 0:
                    end.do("hurry", now)
                case 1:
                    end.put("unordered", True)
                case 2:
                    end.put("kcp_mtu", 25 + draw.below(mtu - 24) if mtu < 280 else mtu - draw.below(200))
                case 3:
                    end.do(
                        "set_windows",
                        end.both[0].snd_wnd + draw.below(9),
                        end.both[0].rcv_wnd + draw.below(9),
                    )
        case _:
            return draw.pick((0, 1, 5, 20, 20, 300, 5000))
    return 0


def _hostile(draw: Draw, end: Twins) -> bytes:
    """Segments as no honest peer sends them, one after the other."""
    kcp, found = end.both[0], b""
    for _ in range(1 + draw.below(4)):
        found += segment(
            draw.pick((PUSH, PUSH, ACK, ACK, 83, 84, 80)),
            sn=draw.near(kcp.rcv_nxt if draw.below(2) else kcp.snd_una),
            ts=draw.near(1000),
            una=draw.near(kcp.snd_una),
            wnd=draw.pick((0, 1, 8, 1024, 65535)),
            frg=draw.pick((0, 0, 1, 2, 0x80, 0x81, 0xFF)),
            payload=draw.bytes(draw.below(40)),
        )
    return found if draw.below(4) else found[: draw.below(len(found) + 1)]
