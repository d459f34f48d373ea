"""The harness' own parts: ports, configurations, programs, quantiles, tables."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from harness import chain, traffic
from harness.process import Failed, Program


def test_free_ports_are_free_and_given_once() -> None:
    ports = chain.Ports()
    first = ports.range(3)
    assert all(map(chain.is_free, first))
    assert set(first).isdisjoint(ports.range(3))


def test_a_preferred_port_in_use_is_passed_over() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as used:
        used.bind((chain.LOOPBACK, 0))
        taken = used.getsockname()[1]
        assert not chain.is_free(taken)
        assert chain.Ports().one(taken) != taken


@pytest.mark.parametrize(
    ("ports", "text"), [((7,), "7"), ((3000, 3001, 3002), "3000-3002"), ((5, 7, 8), "5,7,8")]
)
def test_port_lists_are_written_as_configurations_read_them(ports: tuple[int, ...], text: str) -> None:
    assert chain.port_list(ports) == text


def test_a_chain_is_one_file_per_node_each_hop_on_both_its_sides(tmp_path: Path) -> None:
    hops = [chain.Hop((3000, 3001), "AES-GCM", "one"), chain.Hop((4000,), "AES-OCB", "two", {"kcp": "fast1"})]
    paths = chain.write_configs(tmp_path, ("127.0.0.1", 5), ("::1", 6), hops)
    assert [path.name for path in paths] == ["client.conf", "relay.conf", "server.conf"]
    client, relay, server = (path.read_text() for path in paths)
    assert "destination_port=3000-3001" in client and "encryption_password=one" in client
    listener, forwarder = relay.split("[forwarder]")
    assert "listen_port=3000-3001" in listener and "AES-GCM" in listener
    assert "destination_port=4000" in forwarder and "kcp=fast1" in forwarder
    assert "listen_port=4000" in server and "destination_address=::1" in server
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths), "they hold passwords"


def test_three_hops_have_two_relays(tmp_path: Path) -> None:
    hops = [chain.Hop((port,)) for port in (1, 2, 3)]
    paths = chain.write_configs(tmp_path, ("127.0.0.1", 5), ("::1", 6), hops)
    assert [path.stem for path in paths] == ["client", "relay1", "relay2", "server"]


def test_a_program_is_ready_when_it_says_so_and_ends_with_the_block(tmp_path: Path) -> None:
    code = "import time; print('ready 7', flush=True); time.sleep(600)"
    with Program("it", [sys.executable, "-c", code], tmp_path / "log") as program:
        assert program.wait_for(r"^ready (\d)")[1] == "7"
        assert program.running and program.cpu_s() > 0 and program.peak_rss_bytes() > 1 << 20
    assert not program.running


def test_a_program_that_ends_early_fails_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such luck')"
    with (
        Program("it", [sys.executable, "-c", code], tmp_path / "log") as program,
        pytest.raises(Failed, match=r"exited with code 1(?s:.)*no such luck"),
    ):
        program.wait_for("ready")


def test_the_echo_service_returns_what_it_gets(tmp_path: Path) -> None:
    address = (chain.LOOPBACK, chain.Ports().one())
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 5000)
    with traffic.EchoService(*address):
        assert traffic.send_file(address, file).size_bytes == file.stat().st_size
        assert len(traffic.round_trips(address, 3, 64)) == 3
        assert len(traffic.send_packets(address, [1, 1400, 60000], 1)) == 3


def test_damage_on_the_way_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100_000))
    with socket.create_server((chain.LOOPBACK, 0)) as listener:
        entry = listener.getsockname()

        def answer() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.recv(1 << 20)
                accepted.sendall(bytes(500) + b"\1")
                while accepted.recv(1 << 20):
                    pass

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(traffic.Damaged, match="byte 500 "):
            traffic.send_file(entry, file)


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert traffic.quantile(values, 0.5) == 50
    assert traffic.quantile(values, 0.99) == 99
    assert traffic.quantile([3.0], 0.99) == 3.0
