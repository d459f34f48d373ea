"""kcpg as a library: streams of asyncio and of gevent through a real server, and the examples as they are."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kcpg.api import ConfigurationError, Tunnel, client
from kcpg.core.flow import Target
from kcpg.errors import UsageError
from tests.net import processes
from tests.net.processes import Node

CLIENT = """
mode=client
kcp=auto
listen_port=1
destination_address=127.0.0.1
destination_port={tunnel}
encryption_password=library
encryption_algorithm=AES-GCM
"""
SERVER = """
mode=server
kcp=auto
listen_port={tunnel}
destination_address=127.0.0.1
destination_port={target}
encryption_password=library
encryption_algorithm=AES-GCM
"""
ANY = "destination_port={}\nallow_targets=127.0.0.0/8\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A server in a process of its own whose target echoes: (a client's configuration, the echo's port)."""
    (tunnel,) = processes.free_ports(1)
    with processes.echo() as target:
        file = tmp_path / "server.conf"
        file.write_text(SERVER.format(tunnel=tunnel, target=target) + ANY)
        node = Node(tmp_path / "state", file).ready()
        yield CLIENT.format(tunnel=tunnel), target
        node.stop()


def run(main, seconds=60):
    async def limited():
        return await asyncio.wait_for(main, seconds)

    return asyncio.run(limited())


def test_asyncio_echo_both_ways_at_once(server):
    config, _ = server
    data = random.Random(1).randbytes(3_000_000)

    async def one(tunnel, target):
        reader, writer = await tunnel.open_stream(target)

        async def send():
            for at in range(0, len(data), 50_000):
                writer.write(data[at : at + 50_000])
                await writer.drain()
            writer.write_eof()

        _, got = await asyncio.gather(send(), reader.read())
        writer.close()
        await writer.wait_closed()
        return got

    async def main():
        async with Tunnel.connect(config) as tunnel:
            await tunnel.ready()
            found = await asyncio.gather(*(one(tunnel, None) for _ in range(3)))
            found.append(await one(tunnel, f"127.0.0.1:{server[1]}"))
            return found

    assert all(got == data for got in run(main()))


def test_a_reader_that_stops_stops_the_other_end(server):
    config, _ = server

    async def main():
        async with Tunnel.connect(config) as tunnel:
            reader, writer = await tunnel.open_stream()
            block = bytes(65536)
            sent = 0
            while True:  # nobody reads what the echo sends, so drain() has to wait at last
                writer.write(block)
                sent += len(block)
                try:
                    await asyncio.wait_for(writer.drain(), 2)
                except TimeoutError:
                    break
                assert sent < 1 << 30, "the writer is never stopped"
            writer.write_eof()
            got = 0
            while piece := await reader.read(1 << 20):
                got += len(piece)
            assert got == sent

    run(main(), 100)


def test_what_asyncio_hears_of_failures(server):
    config, _ = server
    (closed,) = processes.free_ports(1)

    async def main():
        tunnel = Tunnel.connect(config)
        for target, kind in (
            (f"127.0.0.1:{closed}", ConnectionRefusedError),
            ("192.0.2.1:1", ConnectionError),
        ):
            reader, _writer = await tunnel.open_stream(target)
            with pytest.raises(kind):
                await reader.read()
        with pytest.raises(ValueError, match="no port"):
            await tunnel.open_stream("127.0.0.1")
        reader, _writer = await tunnel.open_stream()
        await tunnel.close()
        with pytest.raises(ConnectionError):
            await reader.read()
        with pytest.raises(ConnectionAbortedError):
            await tunnel.open_stream()
        await tunnel.close()

    run(main())


def test_an_aborted_stream_and_one_that_is_closed_early(server):
    config, _ = server

    async def main():
        async with Tunnel.connect(config) as tunnel:
            reader, writer = await tunnel.open_stream()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.transport.abort()
            await writer.wait_closed()
            _reader, writer = await tunnel.open_stream()
            writer.write(b"x" * 100_000)
            writer.close()
            await writer.wait_closed()
            assert not tunnel._driver.leg.flows

    run(main())


def test_nobody_there(tmp_path):
    (closed,) = processes.free_ports(1)

    async def main():
        async with Tunnel.connect(CLIENT.format(tunnel=closed) + "dial_timeout=1\n") as tunnel:
            reader, _writer = await tunnel.open_stream()
            with pytest.raises(ConnectionError):
                await reader.read()

    run(main())


def test_gevents_hub_is_left_alone(server):
    """A program of asyncio gets no second event loop."""
    program = (
        "import asyncio, sys\n"
        "from kcpg.api import Tunnel\n"
        "async def main():\n"
        "    async with Tunnel.connect(sys.argv[1]) as tunnel:\n"
        "        reader, writer = await tunnel.open_stream()\n"
        "        writer.write(b'hello')\n"
        "        print(await reader.readexactly(5))\n"
        "asyncio.run(main())\n"
        "from gevent._hub_local import get_hub_if_exists\n"
        "assert get_hub_if_exists() is None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, server[0]], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "b'hello'\n", done.stderr


def test_gevent(server):
    import gevent

    from kcpg.api.gevent import Tunnel as GeventTunnel

    config, target = server
    data = random.Random(2).randbytes(2_000_000)
    with GeventTunnel.connect(config) as tunnel, gevent.Timeout(60):
        assert tunnel.ready()
        with tunnel.open_stream(f"127.0.0.1:{target}") as stream:

            def send():
                stream.sendall(data)
                stream.end()

            sending = gevent.spawn(send)
            got = bytearray()
            while piece := stream.recv(65536):
                got += piece
            sending.get()
            assert got == data
        (closed,) = processes.free_ports(1)
        with tunnel.open_stream(f"127.0.0.1:{closed}") as stream, pytest.raises(ConnectionRefusedError):
            stream.recv(1)
        stream = tunnel.open_stream()
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
        tunnel.close()
        with pytest.raises(ConnectionError):
            stream.recv(1)
        with pytest.raises(ConnectionError):
            stream.sendall(b"x")
        with pytest.raises(ConnectionAbortedError):
            tunnel.open_stream()


@pytest.mark.parametrize("example", ["asyncio_client.py", "gevent_client.py"])
def test_the_examples_run(example, server, tmp_path):
    file = tmp_path / "client.conf"
    file.write_text(server[0])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(processes.PATIENCE_S)

    def serve():
        with listener.accept()[0] as sock:
            assert sock.recv(1000).startswith(b"GET / HTTP/1.0\r\n")
            sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nthe page")

    web = threading.Thread(target=serve)
    web.start()
    source = processes.ROOT / "examples" / example
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    done = subprocess.run(
        [sys.executable, source, str(file), target], capture_output=True, text=True,
        timeout=60, env=processes.environment(tmp_path),
    )  # fmt: skip
    web.join()
    listener.close()
    assert done.stdout.endswith("the page"), done.stderr
    assert len(source.read_text().splitlines()) <= 25, "twenty lines, give or take a blank one"


def test_configurations_in_every_form(tmp_path):
    text = CLIENT.format(tunnel=3000)
    file = tmp_path / "a.conf"
    file.write_text(text)
    assert client.read(text) == client.read(file)
    for wrong in (SERVER.format(tunnel=1, target=2), "nonsense", text + "kcp=x\n"):
        with pytest.raises(ConfigurationError):
            client.read(wrong)
    with pytest.raises(UsageError):
        client.read("kcpg://nonsense")
    assert client.target("[2001:db8::1]:80") == Target("2001:db8::1", 80) and client.target(None) is None
    for bad in ("x", "x:0", "x:99999", ":80", "a b:1"):
        with pytest.raises(ValueError, match="no target"):
            client.target(bad)
