"""The words of a speed test, and its messages."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from kcpg.app import speedverdict
from kcpg.app.speedtest import Bar, picture
from kcpg.app.speedverdict import Facts, Way, table, verdict
from kcpg.core.speedtest import messages
from kcpg.core.speedtest.asker import Phase
from kcpg.core.speedtest.messages import Answerer, Place, Request, What

FACTS = Facts(
    kcp="auto", window_segments=(0, 0), limits_bps=(0, 0), datagram_bytes=1452, fec=True, slow_engine=False,
    busy=0.1, resent=0.0,
)  # fmt: skip


def phase(place: Place, what: What | None, mbit: float = 0.0, trip_ms: int = 40, lost: int = 0) -> Phase:
    """A phase of 5 s with 250 probes, of which so many were lost there."""
    found = Phase(place, what, 5000, Answerer.RELAY if place is Place.NEXT else Answerer.SERVER)
    found.samples = [(ms, int(mbit * 125 * ms)) for ms in range(0, 5001, 50)]
    found.sent, found.seen = 250, 250 - lost
    found.round_trips_ms = [trip_ms] * (250 - lost)
    return found


def way(place: Place = Place.LAST, down: float = 50, up: float = 20, trip_ms: int = 40, lost: int = 0) -> Way:
    return Way(
        place,
        phase(place, None),
        phase(place, What.SEND, down, trip_ms),
        phase(place, What.RECEIVE, up, trip_ms, lost),
    )


def test_the_rate_leaves_the_start_out() -> None:
    slow = phase(Place.LAST, What.SEND, 10)
    slow.samples = [(0, 0), (1250, 0), (5000, 3750 * 1250)]  # nothing at first, then 10 Mbit/s
    assert slow.bps == 10e6
    assert Phase(Place.LAST, What.SEND, 5000).bps == 0.0
    short = Phase(Place.LAST, What.SEND, 5000, samples=[(0, 100), (100, 12_600)])
    assert short.bps == 1e6


def test_nothing_found_is_said() -> None:
    assert verdict([way()], FACTS) == [
        "the tunnel carries 50 Mbit/s down and 20 Mbit/s up; nothing holds it up but the path"
    ]


@pytest.mark.parametrize(
    ("ways", "facts", "words"),
    [
        ([way(lost=10)], {"kcp": "fast1", "fec": False}, "upload: 4.0% of the packets are lost; that is"),
        ([way(lost=10)], {}, "upload: 4.0% of the packets are lost; fec=auto is on"),
        ([way(trip_ms=240)], {}, "download: packets wait 200 ms in a queue; others fill"),
        ([way(trip_ms=240)], {"kcp": "fast1"}, "download: packets wait 200 ms in a queue; kcp=auto at"),
        ([way()], {"limits_bps": (20_000_000, 0)}, "upload: it is at the limit of 20 Mbit/s that outbound"),
        ([way()], {"limits_bps": (0, 52_000_000)}, "download: it is at the limit of 52 Mbit/s that inbound"),
        ([way()], {"kcp": "fast1", "window_segments": (64, 1024)}, "upload: the window of 64 segments"),
        ([way(Place.NEXT, 90, 20), way()], {}, "download: 90 Mbit/s to the next node, 50 Mbit/s to the end"),
        ([way()], {"busy": 0.97}, "this machine's processor"),
        ([way()], {"slow_engine": True}, "the plain-Python engine"),
        ([way()], {"datagram_bytes": 900}, "datagrams of 900 bytes only"),
        ([way()], {"resent": 0.05}, "5.0% of what this end sent was sent again"),
    ],
)  # fmt: skip
def test_what_is_found_is_said_once(ways: list[Way], facts: dict[str, object], words: str) -> None:
    summary, *found = verdict(ways, replace(FACTS, **facts))
    assert summary.endswith("what holds it up:")
    assert sum(words in line for line in found) == 1, found


def test_the_table_has_all_figures() -> None:
    text = "\n".join(table(way(Place.NEXT, trip_ms=55, lost=1)))
    assert "to the next node, a relay" in text
    assert "at rest" in text and "50 Mbit/s" in text and "15 ms" in text and "0.4%" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_json_says_the_same() -> None:
    found = speedverdict.as_json([way(lost=10)], FACTS)
    (one,) = found["ways"]
    assert (one["to"], one["answered_by"], one["round_trip_ms"]) == ("end", "server", 40)
    assert one["upload"] == {
        "bps": 20_000_000,
        "bytes": 12_500_000,
        "round_trip_ms": 40,
        "queue_ms": 0,
        "loss": 0.04,
    }
    assert found["verdict"] == verdict([way(lost=10)], FACTS)


def test_the_bar_is_for_terminals_only() -> None:
    moving = phase(Place.NEXT, What.SEND, 10)
    assert picture(moving, 2500) == "next node, download   [############------------] 10 Mbit/s"
    file = io.StringIO()
    bar = Bar(file)
    bar.draw(moving, 100)
    bar.clear()
    assert file.getvalue() == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = Terminal()
    bar = Bar(file)
    bar.draw(moving, 100)
    bar.clear()
    assert file.getvalue().count("\r") == 3 and file.getvalue().endswith("\r")


# -- messages --


def test_messages_come_back_as_they_were() -> None:
    request = Request(What.RECEIVE, 5000)
    assert messages.read_request(messages.pack_request(request)) == request
    assert messages.read_answer(messages.pack_answer(Answerer.RELAY, 5000)) is Answerer.RELAY
    assert messages.read_report(messages.pack_report(messages.Report(7, 1 << 40))) == (7, 1 << 40)
    probe = messages.pack_probe(77, 16)
    answer = messages.answer_probe(probe, 9)
    assert answer is not None and len(answer) == len(probe)
    assert messages.read_probe(answer) == (77, 9)


def test_no_test_lasts_longer_than_the_node_allows() -> None:
    found = messages.read_request(messages.pack_request(Request(What.SEND, 65_535)))
    assert found == Request(What.SEND, messages.MOST_MS)


@pytest.mark.parametrize("data", [b"\x02\x01\x00\x01", b"\x01\x03\x00\x01", b"GET "])
def test_what_is_no_request_is_none(data: bytes) -> None:
    assert messages.read_request(data) is None


@pytest.mark.parametrize("packet", [b"", b"\x01" * 8, b"\x02" + bytes(20)])
def test_what_is_no_probe_is_not_answered(packet: bytes) -> None:
    assert messages.answer_probe(packet, 1) is None and messages.read_probe(packet) is None
