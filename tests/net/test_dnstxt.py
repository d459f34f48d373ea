"""TXT records: asked of a name server on loopback, and followed as the next node's address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dns.rcode
import gevent
import gevent.event
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcpg.core.env import ResolveFailed
from kcpg.net import Notice, addr, dnstxt, txtpeer
from kcpg.net.dnstxt import NoRecords, Records, look_up
from kcpg.net.resolve import Resolver
from kcpg.net.tunnelsockets import TunnelSockets
from kcpg.net.txtpeer import TxtPeer, parse
from tests.net.dnsserver import DnsServer
from tests.net.sockets import fds, turns, until

TXT = "TXT"


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(
        here_example=[(TXT, '"192.0.2.7:3000"')],
        many_example=[(TXT, '"[2001:db8::7]:1" "192.0.2.7:1"'), (TXT, '"192.0.2.6:9"'), (TXT, '"a"')],
        alias_example=[("CNAME", "here.example.")],
        loop_example=[("CNAME", "loop.example.")],
        other_example=[("A", "192.0.2.1")],
        long_example=[(TXT, f'"192.0.2.{n % 250 + 1}:{n + 1}"') for n in range(100)],
    ) as made:
        yield made


def ask(server: DnsServer, name: str, try_s: float = 3.0) -> Records | NoRecords:
    return look_up(name, [server.place], try_s)


def test_records_and_their_ttl(server: DnsServer) -> None:
    before = fds()
    assert ask(server, "here.example") == Records((b"192.0.2.7:3000",), 60)
    many = ask(server, "many.example")
    assert many == Records((b"192.0.2.6:9", b"192.0.2.7:1", b"[2001:db8::7]:1", b"a"), 60)
    assert ask(server, "alias.example") == Records((b"192.0.2.7:3000",), 60)
    assert fds() == before


def test_a_long_answer_comes_by_tcp(server: DnsServer) -> None:
    found = ask(server, "long.example")
    assert isinstance(found, Records) and len(found.texts) == 100
    assert server.asked == ["long.example."] * 2


def test_only_the_answer_to_the_question_counts(server: DnsServer) -> None:
    server.broken.add("forged")
    assert ask(server, "here.example") == Records((b"192.0.2.7:3000",), 60)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.example", "no such name"),
        ("other.example", "no TXT record"),
        ("loop.example", ""),
        ("a" * 64 + ".example", "not a name"),
    ],
)
def test_no_record_is_said_in_words(server: DnsServer, name: str, words: str) -> None:
    found = ask(server, name)
    assert isinstance(found, NoRecords) and words in found.text


def test_a_server_in_trouble_gives_way_to_the_next(server: DnsServer) -> None:
    with DnsServer(here_example=[(TXT, '"192.0.2.8:1"')]) as good:
        server.rcode = dns.rcode.SERVFAIL
        assert look_up("here.example", [server.place, good.place]) == Records((b"192.0.2.8:1",), 60)
        server.rcode = dns.rcode.NOERROR
        server.broken.add("silent")
        assert look_up("here.example", [server.place, good.place], 0.05) == Records((b"192.0.2.8:1",), 60)
    server.broken.clear()
    server.rcode = dns.rcode.REFUSED
    failed = ask(server, "here.example")
    assert isinstance(failed, NoRecords) and "127.0.0.1: REFUSED" in failed.text


def test_no_server_answers_or_there_is_none(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.broken.add("silent")
    failed = ask(server, "here.example", 0.02)
    assert isinstance(failed, NoRecords) and "no answer" in failed.text
    assert len(server.asked) == dnstxt.ROUNDS
    assert isinstance(look_up("here.example", []), NoRecords)


GOOD = {
    b"192.0.2.7:3000": ("192.0.2.7", 3000),
    b" 192.0.2.7 : 3000 ": ("192.0.2.7", 3000),
    b"[2001:db8::7]:65535": ("2001:db8::7", 65535),
    b"[ ::1 ]:1": ("::1", 1),
}
BAD = [
    b"", b"192.0.2.7", b"192.0.2.7:", b"192.0.2.7:0", b"192.0.2.7:65536", b"192.0.2.7:3000-3010",
    b"192.0.2:1", b"192.0.2.256:1", b"2001:db8::7:3000", b"[2001:db8::7]", b"[192.0.2.7]:1",
    b"[2001:db8::7:1",
    b":3000",
    b"name.example:3000", b"192.0.2.7:+1", b"192.0.2.7:1 2", b"[::1%lo]:1", b"v=spf1 -all", b"\xff:1",
    "192.0.2.7:\u0663".encode(),
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_addresses_in_kcptubes_form(text: bytes) -> None:
    assert parse(text) == addr.pack(*GOOD[text])


@pytest.mark.parametrize("text", BAD)
def test_everything_else_is_malformed(text: bytes) -> None:
    assert parse(text) is None


@given(st.binary(max_size=80))
def test_parsing_never_raises(text: bytes) -> None:
    parse(text)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(1, 65535))
def test_every_address_is_read_back(ip: Any, port: int) -> None:
    packed = addr.pack(str(ip), port)
    assert parse(addr.text(packed).encode()) == addr.unmapped(packed)


class Peer:
    """A TxtPeer whose look-ups a test answers, and what it says."""

    def __init__(self, **options: bool) -> None:
        self.said: list[str] = []
        self.notices: list[Notice] = []
        self.now: Records | NoRecords = Records((b"127.0.0.1:1",), 60)
        self.asked = 0
        self.gate = gevent.event.Event()
        self.gate.set()
        self.touched = 0
        ports = TunnelSockets(Resolver(), **options)
        ports.on_answer = self._touch
        self.peer = TxtPeer(
            "x.example", ports, changed=self.said.append, report=self.notices.append, look_up=self._look_up
        )

    def _touch(self) -> None:
        self.touched += 1

    def _look_up(self, _name: str) -> Records | NoRecords:
        self.asked += 1
        self.gate.wait()
        return self.now

    def ask(self) -> list[str] | str:
        got = gevent.event.AsyncResult()
        self.peer.resolve("ignored", 0, got.set)
        found = got.get(timeout=5)
        return found.text if isinstance(found, ResolveFailed) else [addr.text(a) for a in found]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [1000]
    monkeypatch.setattr(txtpeer, "now_ms", lambda: now[0])
    return now


@pytest.fixture
def peer(clock: list[int]) -> Iterator[Peer]:
    made = Peer()
    made.peer.start()
    yield made
    made.peer.stop()


def test_who_asks_first_waits_and_the_driver_is_told(peer: Peer) -> None:
    peer.gate.clear()
    waiting = [gevent.spawn(peer.ask) for _ in range(3)]
    until(lambda: peer.asked == 1, "one look-up for all")
    gevent.sleep(0)
    peer.gate.set()
    assert [job.get(timeout=5) for job in waiting] == [["127.0.0.1:1"]] * 3
    assert peer.touched == 3 and peer.asked == 1
    assert peer.said == ["TXT record of x.example: 127.0.0.1:1"]


def test_silence_of_the_link_brings_the_new_address(peer: Peer, clock: list[int]) -> None:
    peer.ask()
    peer.now = Records((b"127.0.0.1:2",), 60)
    assert peer.ask() == ["127.0.0.1:1"] and peer.asked == 1, "asked a moment ago"
    clock[0] += txtpeer.NAME_MAX_AGE_MS
    assert peer.ask() == ["127.0.0.1:1"], "nobody waits for the name server"
    until(lambda: peer.asked == 2, "but it is asked")
    assert peer.ask() == ["127.0.0.1:2"]
    assert peer.said[1:] == ["TXT record of x.example: 127.0.0.1:2"]


@pytest.mark.parametrize(
    "now", [NoRecords("no such name"), Records((b"gone",), 60), Records((b"\n\x00",), 60)]
)
def test_trouble_keeps_the_old_address(peer: Peer, clock: list[int], now: Records | NoRecords) -> None:
    peer.ask()
    peer.now = now
    clock[0] += txtpeer.NAME_MAX_AGE_MS
    peer.ask()
    until(lambda: peer.notices, "a notice")
    (notice,) = peer.notices
    assert "going on with 127.0.0.1:1" in notice.text and notice.text.isprintable()
    assert peer.ask() == ["127.0.0.1:1"] and len(peer.said) == 1


def test_nothing_at_first_is_told_to_the_dialer_and_asked_again(peer: Peer, clock: list[int]) -> None:
    peer.now = Records((b"v=spf1 -all",), 60)
    assert peer.ask() == "'v=spf1 -all' is not IPv4:port or [IPv6]:port"
    assert peer.ask() == "'v=spf1 -all' is not IPv4:port or [IPv6]:port" and peer.asked == 1
    peer.now = NoRecords("there is no such name")
    clock[0] += txtpeer.RETRY_WANTED_MS
    assert peer.ask() == "there is no such name" and peer.asked == 2
    peer.now = Records((b"127.0.0.1:1",), 60)
    clock[0] += txtpeer.RETRY_WANTED_MS
    assert peer.ask() == ["127.0.0.1:1"]
    assert not peer.notices, "what keeps the dialer from its peer is the dialer's to tell"


def test_several_addresses_are_sorted_and_what_is_none_is_named(peer: Peer) -> None:
    peer.now = Records((b"127.0.0.2:1", b"127.0.0.1:2", b"v=spf1 -all", b"127.0.0.1:1"), 60)
    assert peer.ask() == ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.1:2"]
    assert "'v=spf1 -all' is not IPv4:port" in peer.notices[0].text and "127" not in peer.notices[0].text


@pytest.mark.parametrize(("ttl_s", "wait_s"), [(0, 30), (60, 60), (86400, 3600)])
def test_the_ttl_within_bounds(peer: Peer, ttl_s: int, wait_s: int) -> None:
    peer.now = Records((b"127.0.0.1:1",), ttl_s)
    peer.ask()
    assert peer.peer._wait_s == wait_s


def test_the_record_is_looked_up_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(txtpeer, "MIN_TTL_S", 0.01)
    made = Peer()
    made.now = Records((b"127.0.0.1:1",), 0)
    made.peer.start()
    until(lambda: made.asked >= 3, "three look-ups")
    made.peer.stop()
    made.peer.stop()
    turns()
    after = made.asked
    other = Peer()
    other.now = made.now
    other.peer.start()
    until(lambda: other.asked >= 3, "another one, started later, asked again and again")
    other.peer.stop()
    assert made.asked == after and len(made.said) == 1


@pytest.mark.parametrize(("option", "want"), [("ipv4_only", "127.0.0.1:1"), ("ipv6_only", "[2001:db8::7]:1")])
def test_a_family_that_is_switched_off_is_not_used(option: str, want: str, clock: list[int]) -> None:
    made = Peer(**{option: True})
    made.now = Records((b"127.0.0.1:1", b"[2001:db8::7]:1"), 60)
    made.peer.start()
    assert made.ask() == [want]
    made.peer.stop()


def test_more_askers_than_any_dialer_has(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(txtpeer, "MAX_WAITING", 2)
    peer.gate.clear()
    got: list[Any] = []
    for _ in range(4):
        peer.peer.resolve("", 0, got.append)
    assert [answer.text for answer in got] == ["it is being looked up"] * 2
    peer.gate.set()
    until(lambda: len(got) == 4, "the others too")
