"""What tests of real sockets share: servers and clients on loopback, waiting for conditions, counting what is
left."""

import gc
import os
import socket
import struct

import gevent
import gevent.event
import gevent.server
import gevent.socket
import greenlet
import pytest

from kcpg.core.flow import Target
from kcpg.net import task
from kcpg.net.alarm import Alarm
from kcpg.net.clock import now_ms


def until(condition, what, seconds=5.0):
    """Wait for a condition, not for a time."""
    with gevent.Timeout(seconds, AssertionError(f"not within {seconds} s: {what}")):
        while not condition():
            gevent.sleep(0.002)


def turns(count=1):
    """Let the event loop look at every socket and timer so often, and run what it found."""
    hub = gevent.get_hub()
    for _ in range(count + 1):  # what was ready before the first may have come after it in its round
        hub.wait(hub.loop.timer(0))


def pass_time(at_ms):
    """Wait for an alarm at this time. What was due before, by an alarm or a timer, has had its turn then.

    For what must not happen: a test that merely sleeps may wake up first where the machine stands still.
    """
    rang = gevent.event.Event()
    alarm = Alarm(rang.set)
    alarm.set(at_ms)
    rang.wait()
    alarm.close()
    turns()


class Server:
    """A TCP server on loopback whose connections are handled by `handle(sock)`."""

    def __init__(self, handle, host="127.0.0.1"):
        self.server = gevent.server.StreamServer((host, 0), self._serve)
        self.handle = handle

    def _serve(self, sock, _where):
        sock.settimeout(10)
        try:
            self.handle(sock)
        except ConnectionError:
            pass

    def __enter__(self):
        self.server.start()
        self.target = Target(self.server.server_host, self.server.server_port)
        return self

    def __exit__(self, *_):
        self.server.stop(timeout=0)


def echo(sock):
    """Send back everything, then the end."""
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def fill(sock, chunk):
    """Write `chunk` again and again until nothing moves for 20 looks; how many bytes that were."""
    sent = stuck = 0
    while stuck < 20:
        try:
            sent += sock._sock.send(chunk[sent % len(chunk) :])
            stuck = 0
        except BlockingIOError:
            stuck += 1
            gevent.sleep(0.005)
    return sent


def read_all(sock):
    """Everything up to the end."""
    out = bytearray()
    while data := sock.recv(65536):
        out += data
    return bytes(out)


def abort(sock):
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def assert_reset(node):
    """A new connection is reset, perhaps so quickly that already the client's connect() says so."""
    with pytest.raises(ConnectionResetError), node.dial() as sock:
        sock.recv(1)


class UdpEcho:
    """Answers every packet, and remembers who asked."""

    def __init__(self, host="127.0.0.1"):
        self.sock = udp_client(host)
        self.sock.settimeout(None)
        self.sources = set()

    def __enter__(self):
        self.job = gevent.spawn(self._run)
        self.target = Target(*self.sock.getsockname()[:2])
        return self

    def __exit__(self, *_):
        self.job.kill()
        self.sock.close()

    def _run(self):
        while True:
            packet, where = self.sock.recvfrom(65535)
            self.sources.add(where)
            self.sock.sendto(packet, where)


def udp_client(host="127.0.0.1"):
    """A UDP socket with a port of its own."""
    sock = gevent.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(5)
    return sock


def quiet():
    """Whether nothing runs while only a timer is due: few turns of greenlets and polls of the loop."""
    polls = 0

    def count():
        nonlocal polls
        polls += 1

    watcher = gevent.get_hub().loop.check()
    watcher.start(count)
    before = task.turns()
    pass_time(now_ms() + 50)
    watcher.stop()
    watcher.close()
    return polls + task.turns() - before < 50


def fds():
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def greenlets():
    """How many greenlets have not ended."""
    gc.collect()
    return sum(1 for o in gc.get_objects() if isinstance(o, greenlet.greenlet) and not o.dead)
