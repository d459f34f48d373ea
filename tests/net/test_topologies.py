"""The networks are what their drawings say, cannot be gone around, and are gone afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import netns
from harness.netns import Lab, leftovers
from harness.process import ROOT, Failed
from harness.topologies import chains, multipath, narrow, nat
from harness.topology import Topology
from netem.profile import Impair, Profile
from tests.net.emulation import lab

__all__ = ["lab"]

IMPAIR = Impair(delay_ns=10**6)
QUICK = Profile("quick", "made for a test", ("chosen",), IMPAIR, IMPAIR)


def exchange(topology: Topology, dialler: str, listener: str, address: str) -> tuple[str, int]:
    """A packet from one to the other and an answer back; gives what the listener took it to come from."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        topology.nodes[listener].socket(family, socket.SOCK_DGRAM) as receiver,
        topology.nodes[dialler].socket(family, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((address, 0))
        for each in (receiver, sender):
            each.settimeout(5)
        sender.sendto(b"question", receiver.getsockname())
        data, source = receiver.recvfrom(100)
        assert data == b"question"
        receiver.sendto(b"answer", source)
        assert sender.recv(100) == b"answer"
    return str(source[0]), int(source[1])


@pytest.mark.parametrize(
    ("make", "stages"),
    [
        (lambda lab: chains.chain(lab, QUICK, 0, backend="box"), 1),
        (lambda lab: chains.chain(lab, QUICK, 1, backend="box"), 2),
        (lambda lab: chains.chain(lab, QUICK, 2, backend="box"), 3),
        (lambda lab: chains.ipv6_only_middle(lab, QUICK, backend="box"), 3),
        (lambda lab: nat.nat(lab, QUICK, backend="box"), 1),
        (lambda lab: multipath.two_uplinks(lab, [QUICK, QUICK], backend="box"), 1),
        (lambda lab: multipath.two_servers(lab, [QUICK, QUICK], backend="box"), 1),
        (lambda lab: narrow.narrow_middle(lab, QUICK, backend="box"), 1),
    ],
    ids=["direct", "relay", "two-relays", "ipv6-middle", "nat", "two-uplinks", "two-servers", "narrow"],
)
def test_every_stage_works_and_nothing_else_does(
    lab: Lab, make: Callable[[Lab], Topology], stages: int
) -> None:
    with make(lab) as topology:
        topology.assert_no_bypass()
        assert len(topology.stages) == stages and topology.backends == {"box"}
        for stage in topology.stages:
            before = sum(link.facts()["up"]["frames"] for link in stage.links)
            for address in stage.addresses:
                exchange(topology, stage.dialler, stage.listener, address)
            after = sum(link.facts()["up"]["frames"] for link in stage.links)
            assert after - before == len(stage.addresses), "every packet went over the impaired cables"


def test_relays_do_not_route_but_for_a_comparison(lab: Lab) -> None:
    with chains.chain(lab, QUICK, 2, backend="box") as topology:
        with topology.routed() as addresses:
            assert addresses == ("10.77.3.2", "fd77:3::2")
            for address in addresses:
                exchange(topology, "client", "server", address)
            with pytest.raises(Failed, match=r"client reaches server at 10\.77\.3\.2"):
                topology.assert_no_bypass()
        topology.assert_no_bypass()


def test_a_way_around_is_found(lab: Lab) -> None:
    with chains.chain(lab, QUICK, 1, backend="box") as topology:
        lab.veth(topology.client, "short", topology.server, "cut")
        with pytest.raises(Failed, match="interfaces that belong to no cable: short"):
            topology.assert_no_bypass()


def test_translation_hides_the_client_and_forgets(lab: Lab) -> None:
    with nat.nat(lab, QUICK, backend="box") as topology:
        for address, outer in zip(topology.stages[0].addresses, topology.outer, strict=True):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with (
                topology.server.socket(family, socket.SOCK_DGRAM) as receiver,
                topology.client.socket(family, socket.SOCK_DGRAM) as sender,
            ):
                receiver.bind((address, 0))
                receiver.settimeout(5)
                seen = []
                for _ in range(2):
                    for _ in range(2):
                        sender.sendto(b"x", receiver.getsockname())
                        source = receiver.recvfrom(10)[1]
                        assert source[0] == outer
                        seen.append(source[1])
                    first, last = topology.rebind()
                sender.sendto(b"x", receiver.getsockname())
                seen.append(receiver.recvfrom(10)[1][1])
            assert seen[0] == seen[1] != seen[2] == seen[3] and first <= seen[4] <= last


def test_the_client_changes_its_uplink(lab: Lab) -> None:
    with multipath.two_uplinks(lab, [QUICK, QUICK], backend="box") as topology:
        sources = []
        for number in (1, 2, 1):
            topology.use(number)
            topology.assert_no_bypass()
            sources += [
                exchange(topology, "client", "server", address)[0] for address in topology.stages[0].addresses
            ]
    assert sources == ["10.77.1.1", "fd77:1::1", "10.77.2.1", "fd77:2::1", "10.77.1.1", "fd77:1::1"]


@pytest.mark.parametrize("silent", [False, True])
def test_big_packets_do_not_fit_the_middle(lab: Lab, silent: bool) -> None:
    with narrow.narrow_middle(lab, QUICK, silent=silent, backend="box") as topology:
        for address in topology.stages[0].addresses:
            ping = ["ping", "-c", "1", "-W", "1", "-M", "do", "-s"]
            topology.client.run([*ping, "1200", address])
            with pytest.raises(Failed, match="100% packet loss" if silent else "Frag needed|too big"):
                topology.client.run([*ping, "1400", address])
            if not silent:  # that one brought the answer, the next one meets what was learnt from it
                with pytest.raises(Failed, match=r"too long|too large|Too big"):
                    topology.client.run([*ping, "1400", address])


RUN = """
import sys, time
from harness.netns import Lab
from harness.topologies.chains import chain
from netem.profile import load
with Lab() as lab, chain(lab, load("lossy1"), 1, backend="box") as topology:
    print(*(namespace.name for namespace in lab.namespaces), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(lab: Lab, number: int) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert running.stdout is not None
    names = running.stdout.readline().split()
    assert len(names) == 5, "three nodes and the rooms of two link boxes"
    assert set(names) <= set(leftovers())
    assert not set(names) & set(netns.sweep()), "those of a run that is alive stay"
    assert list(Path(tempfile.gettempdir()).glob(f"kcpg-lab-{running.pid}-*"))
    boxes = {pid for name in names for pid in _pids(name)}
    running.send_signal(number)
    running.wait(20)
    running.stdout.close()
    if number == signal.SIGKILL:
        assert set(names) <= set(netns.sweep())
    assert not set(names) & set(leftovers())
    assert not list(Path(tempfile.gettempdir()).glob(f"kcpg-lab-{running.pid}-*"))
    until_s = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in boxes) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert boxes and not any(Path(f"/proc/{pid}").exists() for pid in boxes)


def _pids(name: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_commands_are_those_a_person_would_type(lab: Lab) -> None:
    with chains.chain(lab, QUICK, 0, backend="box"):
        pass
    first = f"kcpg-{os.getpid()}-"
    for words in (
        f"ip netns add {first}",
        f"ip -n {first}",
        " sysctl -w 'net.ipv4.tcp_congestion_control=reno'",
    ):
        assert any(words in command for command in lab.commands), words
    assert any(command.endswith("link set eth1 up") for command in "\n".join(lab.commands).splitlines())


def test_a_failing_command_says_what_it_was(lab: Lab) -> None:
    node = lab.add("node")
    with pytest.raises(Failed, match=rf"ip -n {node.name} link set nowhere up(.|\n)*Cannot find device"):
        node.ip("link set nowhere up")
