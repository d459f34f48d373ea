"""The driver's rules: advance, drain, wait for the deadline; nothing spins, is lost, or ends it."""

import errno
import os
import resource
import socket
from collections import Counter

import gevent
import pytest

from kcpg.core.node import Node
from kcpg.net import addr, driver, tunnelsockets, udp
from kcpg.net.clock import now_ms
from kcpg.net.driver import Driver
from kcpg.net.resolve import Resolver
from kcpg.net.tunnelsockets import TunnelSockets
from tests.net.sockets import fds, pass_time, turns, until


class StubWire:
    """Remembers what it was given, sends what it is told to."""

    def __init__(self):
        self.got = []
        self.taken_at = Counter()
        self.out = []
        self.news = False
        self.coalesce = 0

    def coalesce_ms(self, now):
        return self.coalesce

    @property
    def backlog(self):
        return bool(self.out)

    def deadline(self):
        return 0 if self.out else None

    def receive(self, sock, where, datagram, now):
        self.got.append((sock, datagram))
        self.taken_at[now] += 1
        self.news = True

    def transmit(self, now):
        out, self.out = self.out[:10], self.out[10:]
        return out


class StubLeg:
    """A tunnel leg of nothing but a wire."""

    def __init__(self):
        self.wire = StubWire()
        self.too_long = []

    def too_big(self, sock, addr, size):
        self.too_long.append((sock, addr, size))


class StubIngress:
    """What a node needs of a leg that nothing comes from."""


class StubNode(Node):
    """A node whose legs the test plays."""

    def __init__(self, leg=None):
        super().__init__(leg if leg is not None else StubIngress(), None)
        self.advanced = []
        self.due = None
        self.left_over = False
        self.on_advance = None
        self.closed = None

    def start(self, now):
        pass

    def advance(self, now):
        self.advanced.append(now)
        if isinstance(self.ingress, StubLeg):
            self.ingress.wire.news = False
        if self.due and self.due <= now:
            self.due = None
        if self.on_advance is not None:
            self.on_advance()

    def advance_deadline(self):
        return self.due

    def is_left_over(self):
        return self.left_over

    def close(self, now, reason):
        self.closed = reason


class Rig:
    """A driver around a stub node with one tunnel leg on one loopback socket."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(driver, "make_io", udp.UdpIo)
        self.notices = []
        self.leg = StubLeg()
        self.node = StubNode(self.leg)
        self.ports = TunnelSockets(Resolver(), ipv4_only=True, report=self.notices.append)
        self.number = self.ports.open()
        self.driver = Driver(self.node, {self.leg: self.ports}, self.notices.append)
        self.peer = udp.open_udp("127.0.0.1", 0)
        self.peer_addr = addr.from_tuple(self.peer.sock.getsockname())

    @property
    def here(self):
        return ("127.0.0.1", self.ports.get(self.number).port)

    def keys(self):
        return [notice.key for notice in self.notices]

    def received(self):
        got = []
        try:
            while True:
                got.append(self.peer.sock.recvfrom(2000)[0])
        except BlockingIOError:
            return got


@pytest.fixture
def rig(monkeypatch):
    made = Rig(monkeypatch)
    yield made
    made.driver.stop()
    made.peer.close()


def settle():
    """Let the loop turn until callbacks, zero timers and ready sockets have had their turn."""
    turns(5)


def test_datagrams_go_in_and_out_around_an_advance(rig):
    rig.driver.start()
    rig.node.on_advance = lambda: (
        [
            rig.leg.wire.out.append((rig.number, rig.peer_addr, b"answer to " + datagram))
            for _, datagram in rig.leg.wire.got[len(rig.leg.wire.out) :]
        ]
        and setattr(rig.node, "on_advance", None)
    )
    rig.peer.sock.sendto(b"question", rig.here)
    until(lambda: rig.leg.wire.got, "it arrives")
    assert rig.leg.wire.got == [(rig.number, b"question")]
    settle()
    assert rig.received() == [b"answer to question"]


def test_many_datagrams_are_taken_together_while_they_may_lie_in_the_socket(rig):
    wire = rig.leg.wire
    rig.driver.start()
    sent = 0

    def send():
        nonlocal sent
        rig.peer.sock.sendto(b"%d" % sent, rig.here)
        sent += 1

    def arrives_together():
        send()
        return max(wire.taken_at.values(), default=0) >= 4

    wire.coalesce = 40
    until(arrives_together, "several are taken at a time")
    wire.coalesce = 0
    until(lambda: len(wire.got) == sent, "nothing stays in the socket")
    wire.taken_at.clear()
    for _ in range(5):
        send()
        until(lambda: len(wire.got) == sent, "each is taken when it comes")
    assert [datagram for _, datagram in wire.got] == [b"%d" % number for number in range(sent)]


def test_a_node_ends_while_nobody_watches_its_socket(rig):
    wire = rig.leg.wire
    rig.driver.start()
    wire.coalesce = 40

    def arrives_together():
        rig.peer.sock.sendto(b"x", rig.here)
        return max(wire.taken_at.values(), default=0) >= 4

    until(arrives_together, "several are taken at a time")
    before = fds()
    rig.driver.stop()
    assert fds() < before
    pass_time(now_ms() + 100)


def test_touches_are_served_once(rig):
    rig.driver.start()
    settle()
    before = len(rig.node.advanced)
    for _ in range(10):
        rig.driver.request_advance()
    settle()
    assert len(rig.node.advanced) == before + 1


def test_bytes_alone_are_sent_without_advancing_the_node(rig):
    rig.driver.start()
    settle()
    before = len(rig.node.advanced)
    rig.leg.wire.out.append((rig.number, rig.peer_addr, b"bytes"))
    rig.driver.request_flush()
    until(lambda: rig.received() == [b"bytes"], "they leave")
    assert len(rig.node.advanced) == before


def test_while_data_flows_the_node_is_advanced_now_and_then(rig):
    rig.driver.start()
    settle()
    before = len(rig.node.advanced)

    def moved():
        rig.driver.request_flush()
        return len(rig.node.advanced) >= before + 3

    until(moved, "links look at the clock")


def test_what_flows_left_over_advances_the_node(rig):
    rig.driver.start()
    settle()
    before = len(rig.node.advanced)
    rig.node.left_over = True
    rig.node.on_advance = lambda: setattr(rig.node, "left_over", False)
    rig.driver.request_flush()
    until(lambda: len(rig.node.advanced) > before, "the rest has its turn")


def test_the_timer_serves_the_deadline_and_an_idle_node_is_left_alone(rig):
    rig.driver.start()
    settle()
    due = rig.node.due = now_ms() + 30
    rig.driver.request_advance()
    settle()
    before = len(rig.node.advanced)
    until(lambda: rig.node.advanced[-1] >= due, "the deadline is served")
    assert len(rig.node.advanced) - before <= 3  # libev may be a millisecond early, then it looks again
    settle()
    count = len(rig.node.advanced)
    pass_time(now_ms() + 100)  # one that is not idle is looked at every 50 ms
    assert len(rig.node.advanced) == count


def test_an_earlier_deadline_moves_the_timer(rig):
    rig.driver.start()
    rig.node.due = now_ms() + 60_000
    rig.driver.request_advance()
    settle()
    due = rig.node.due = now_ms() + 20
    rig.driver.request_advance()
    until(lambda: rig.node.advanced[-1] >= due, "the earlier deadline is served")


def test_work_without_end_leaves_others_their_turn(rig):
    """A node that always has something to do at once: sockets are still polled, other greenlets still run."""
    rig.driver.start()
    rig.node.due = 0
    rig.driver.request_advance()
    turns = 0
    for number in range(20):
        rig.peer.sock.sendto(b"%d" % number, rig.here)
        gevent.sleep(0)
        turns += 1
    until(lambda: len(rig.leg.wire.got) == 20, "the socket was polled")
    rig.node.due = None
    assert turns == 20


def test_an_error_of_the_program_is_told_and_does_not_spin(rig, monkeypatch):
    monkeypatch.setattr(driver, "ERROR_PAUSE_MS", 20)

    def fail():
        raise ValueError("an error of the program")

    rig.driver.start()
    settle()
    rig.node.on_advance = fail
    rig.driver.request_advance()
    until(lambda: rig.keys().count("internal_error") >= 3, "it is told each time")
    assert "an error of the program" in rig.notices[-1].text
    rig.node.on_advance = None
    before = len(rig.node.advanced)
    until(lambda: len(rig.node.advanced) > before, "it goes on")


class Refusing:
    """A socket whose next sends fail with the given errnos."""

    def __init__(self, sock, *errors):
        self._sock = sock
        self.errors = list(errors)

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendto(self, data, where):
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, errno.errorcode[number])
        return self._sock.sendto(data, where)


def test_a_full_socket_loses_nothing(rig):
    rig.driver.start()
    sock = rig.ports.get(rig.number)
    sock.gso = False
    sock.sock = Refusing(sock.sock, *[errno.EAGAIN] * 3)
    sent = [b"%02d" % number for number in range(25)]
    rig.leg.wire.out = [(rig.number, rig.peer_addr, datagram) for datagram in sent]
    rig.driver.request_advance()
    settle()
    until(lambda: not rig.leg.wire.out, "all is sent")
    settle()
    assert rig.received() == sent
    assert not rig.driver.errors()


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EPERM, errno.ENOBUFS])
def test_what_the_network_refuses_ends_nothing(rig, number):
    rig.driver.start()
    sock = rig.ports.get(rig.number)
    sock.sock = Refusing(sock.sock, number)
    rig.leg.wire.out = [(rig.number, rig.peer_addr, b"lost"), (rig.number, rig.peer_addr, b"arrives later")]
    sock.gso = False
    rig.driver.request_advance()
    settle()
    assert rig.received() == [b"arrives later"]
    assert sum(rig.driver.errors().values()) == 1
    assert rig.keys() == [f"udp_send_failed_{errno.errorcode[number]}"]
    assert f" to {addr.text(rig.peer_addr)} fails: {os.strerror(number)}" in rig.notices[0].text
    assert rig.ports.get(rig.number) is sock


def test_what_is_too_long_for_the_interface_is_told_to_the_leg(rig):
    rig.driver.start()
    sock = rig.ports.get(rig.number)
    sock.sock = Refusing(sock.sock, errno.EMSGSIZE)
    sock.gso = False
    rig.leg.wire.out = [(rig.number, rig.peer_addr, bytes(1400)), (rig.number, rig.peer_addr, b"arrives")]
    rig.driver.request_advance()
    settle()
    assert rig.received() == [b"arrives"]
    assert rig.leg.too_long == [(rig.number, rig.peer_addr, 1400)]
    assert not rig.driver.errors() and not rig.keys(), "no error: it is how the size is found"


def test_a_network_that_went_away_means_a_new_socket(rig):
    rig.driver.start()
    before, where = rig.ports.get(rig.number), rig.here
    before.sock = Refusing(before.sock, errno.ENETUNREACH)
    before.gso = False
    rig.leg.wire.out = [(rig.number, rig.peer_addr, b"lost"), (rig.number, rig.peer_addr, b"by the old one")]
    rig.driver.request_advance()
    settle()
    after = rig.ports.get(rig.number)
    assert after is not before
    assert rig.here != where
    assert rig.driver.errors() == {"network_unreachable": 1}
    rig.peer.sock.sendto(b"to the new one", rig.here)
    until(lambda: rig.leg.wire.got == [(rig.number, b"to the new one")], "the new socket receives")


def test_sockets_come_and_go_while_it_runs(rig):
    rig.driver.start()
    settle()
    before = fds()
    number = rig.ports.open()
    assert number != rig.number
    rig.peer.sock.sendto(b"x", ("127.0.0.1", rig.ports.get(number).port))
    until(lambda: rig.leg.wire.got == [(number, b"x")], "the new socket receives")
    rig.ports.close(number)
    rig.ports.close(number)
    assert rig.ports.get(number) is None
    settle()
    assert fds() == before
    assert rig.ports.open() != number, "numbers are not used again at once"


def test_stop_sends_the_farewell_and_closes(rig):
    before = fds()
    rig.driver.start()
    rig.node.close = lambda now, reason: rig.leg.wire.out.append((rig.number, rig.peer_addr, reason.encode()))
    rig.driver.stop("good-bye")
    rig.driver.stop("again")
    settle()
    assert rig.received() == [b"good-bye"]
    assert fds() == before - 1
    count = len(rig.node.advanced)
    rig.driver.request_advance()
    settle()
    assert len(rig.node.advanced) == count


def test_a_start_without_a_timer_leaves_nothing_open(rig):
    """Of the machine's descriptors none is left for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError) as caught:
            rig.driver.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    assert rig.node.closed == "start failed"
    assert rig.ports.get(rig.number) is None


def test_names_are_answered_in_the_form_the_sockets_take():
    got = []
    dual = TunnelSockets(Resolver())
    dual.on_answer = lambda: got.append("touched")
    dual.resolve("127.0.0.1", 5, got.append)
    assert got == [[addr.for_family(addr.pack("127.0.0.1", 5), addr.AF_INET6)], "touched"]
    got.clear()
    four = TunnelSockets(Resolver(), ipv4_only=True)
    four.resolve("127.0.0.1", 5, got.append)
    four.resolve("::1", 5, got.append)
    assert got[0] == [addr.pack("127.0.0.1", 5)]
    assert "only IPv4" in got[1].text


def test_a_name_is_asked_again_for_the_next_attempts():
    asked = []

    def lookup(host, port, family, kind):
        asked.append(host)
        return [(socket.AF_INET, kind, 6, "", ("10.0.0.1", 0))]

    tunnel = TunnelSockets(Resolver(lookup), ipv4_only=True)
    for _ in range(2):
        got = []
        tunnel.resolve("peer.example", 5, got.append)
        until(lambda got=got: got, "the answer")
    assert asked == ["peer.example"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tunnelsockets, "NAME_MAX_AGE_MS", 0)
        got = []
        tunnel.resolve("peer.example", 5, got.append)
        until(lambda: got, "the answer")
    assert asked == ["peer.example"] * 2
