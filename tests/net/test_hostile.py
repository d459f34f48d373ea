"""The attacks of `python -m harness hostile` reach a real node, which stays up and fit to be looked at."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import hostile
from harness.malicious_peer import Order
from harness.rawlink import RawLink
from tests.net import processes

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SERVER = f"""\
mode=server
listen_on=127.0.0.1
listen_port={{listen}}
destination_address=127.0.0.1
destination_port={{target}}
encryption_key={KEY}
encryption_algorithm=AES-GCM
log_level=debug
"""
STEPS = 40


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[processes.Node, int]]:
    """A server whose target echoes, and its port."""
    (listen,) = processes.free_ports(1)
    with processes.echo() as target:
        (tmp_path / "server.conf").write_text(SERVER.format(listen=listen, target=target))
        made = processes.Node(tmp_path / "state", tmp_path / "server.conf").ready()
        yield made, listen
        made.stop()


@pytest.mark.parametrize("name", hostile.ATTACKS)
def test_an_attack_reaches_a_node_that_goes_on(node: tuple[processes.Node, int], name: str) -> None:
    server, port = node
    made: list[RawLink] = []
    make = hostile.maker(name, Order("127.0.0.1", port, KEY, "AES-GCM", "1", 1), made)
    attack = hostile.ATTACKS[name](make, random.Random(1))
    for _ in range(STEPS):
        next(attack)
    assert sum(link.sent_datagrams for link in made) >= STEPS
    for link in made:
        link.close()
    assert server.process.poll() is None
    assert "internal_error" not in server.output and "Traceback" not in server.output
    for line in server.lines:
        assert line.isprintable(), ascii(line)


def test_the_command_measures_what_an_honest_peer_feels(node: tuple[processes.Node, int]) -> None:
    words = ["words", f"127.0.0.1:{node[1]}", f"KEY={KEY}", "SECONDS=0.3"]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "hostile", *words],
        cwd=processes.ROOT,
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and not report["unanswered"], done.stderr
    assert report["links"] == 1 and report["datagrams"] > 2
    assert report["before_ms"]["count"] == report["after_ms"]["count"] == hostile.QUESTIONS


@pytest.mark.parametrize(
    "words",
    [
        [], ["words"], ["nothing", "127.0.0.1:1", f"KEY={KEY}"], ["words", "127.0.0.1:1"],
        ["words", "192.88.99.1:1", f"KEY={KEY}"], ["words", "127.0.0.1:1", "KEY=short"],
    ],
)  # fmt: skip
def test_what_it_does_not_do(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Above all: it attacks nobody's machine but one's own."""
    assert hostile.main(words) == 2
    assert capsys.readouterr().err


def test_it_lists_its_attacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert hostile.main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(hostile.ATTACKS)
