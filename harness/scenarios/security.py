"""An eavesdropper learns nothing, and an attacker changes nothing.

client ==(tcpdump)====(tcpdump)== server        the attacker sends from both ends of the cable
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from harness import eavesdropper, on_path_attacker
from harness.capture import Capture
from harness.case import Case, Skipped, wait_until
from harness.deployment import PRESET, TUNNEL_PORTS, stage_key
from harness.link import ETHERNET_MTU, Link
from harness.process import Program
from harness.scenarios.base import Scenario

# Requests of the flow under attack; it ends with the attacks, after some ten seconds.
MOST_REQUESTS = 4000

# Each node counts about half of the attack datagrams, as both nodes get the same; the line loses some.
COUNTED = 0.35

MOST_OVERHEAD = 1.5  # Wire bytes per payload byte: 1.1 is usual on the lines of this scenario

REACHED = 0.7  # At least this share of a malicious peer's attack gets through the line

GROWN_BYTES = 64_000_000  # Growth of a node while a peer opens thousands of conversations

# Limit for the share of a byte's most frequent value near the beginning of a datagram; chance gives 1/256.
UNCOMMON = 0.05


class Eavesdropper(Scenario):
    """An eavesdropper at both ends."""

    name = "eavesdropper"
    description = (
        "captures of both ends: no plaintext, no fragments, no oversized datagrams, no constant bytes"
    )
    dialects = ("native",)
    workload = "half-close"
    modes = ("server", "relay")

    def drive(self, case: Case) -> None:
        """Send a known text and known bytes, then search the captures for them."""
        link = case.topology.stages[0].links[0]
        with Capture(link, case.directory) as capture:
            case.work("kcpg bytes", "half-close", size_bytes=400_000)
            case.work("kcpg words", "server-first", count=5)
        seed = int(case.plan.seed) if case.plan.seed.isdigit() else sum(case.plan.seed.encode())
        sent = random.Random(f"{seed}:question").randbytes(400_000)
        for side, path in zip(("near", "far"), capture.files, strict=True):
            look(case, link, side, path)
            found = [at for at in range(0, len(sent), 20_000) if eavesdropper.holds(path, sent[at : at + 16])]
            case.expect(f"{side}: none of the data", not found, found)
            case.expect(f"{side}: no greeting in cleartext", not eavesdropper.holds(path, b"speak after me"))
        near = eavesdropper.read(capture.files[0])
        wire = sum(each.ip_bytes for each in near)
        payload = case.outcome.measured["kcpg bytes"].get("bytes", 1)
        # The capture is complete, and nothing is resent over and over.
        case.expect(
            "near: the capture has all of the payload", payload <= wire <= MOST_OVERHEAD * payload, wire
        )
        case.outcome.facts["wire_overhead"] = wire / payload - 1


def look(case: Case, link: Link, side: str, path: Path, mtu: int = ETHERNET_MTU) -> None:
    """Check what every capture of a tunnel must show; `mtu`: the cable's."""
    seen = eavesdropper.read(path)
    mtu = min(int(case.plan.options.get("mtu", mtu)), mtu)
    case.expect(f"{side}: the capture shows the tunnel", len(seen) > 100, len(seen))
    case.expect(
        f"{side}: the capture shows nothing else",
        not eavesdropper.foreign(seen, TUNNEL_PORTS),
        eavesdropper.foreign(seen, TUNNEL_PORTS),
    )
    case.expect(f"{side}: no IP fragment", eavesdropper.fragments(seen) == 0, eavesdropper.fragments(seen))
    case.expect(
        f"{side}: no packet above {mtu} bytes", eavesdropper.largest(seen) <= mtu, eavesdropper.largest(seen)
    )
    at, share = eavesdropper.most_constant(seen)
    case.expect(f"{side}: no constant byte", share < UNCOMMON, f"byte {at}: {share:.1%} have the same value")


class OnPathAttacker(Scenario):
    """An attacker on the path tries everything."""

    name = "on-path-attacker"
    description = (
        "replay, reflection, bit flips, truncation, floods, spoofed sources, forged handshakes under a flow"
    )
    dialects = ("native",)
    workload = "latency"
    modes = ("server", "relay")
    limit_s = 90.0

    def drive(self, case: Case) -> None:
        """Attack a flow of small requests; every answer must be right, and unknown addresses get none."""
        if case.plan.family == 6:
            raise Skipped("the attacker forges IPv4 packets only: the tunnel must be IPv4")
        link = case.topology.stages[0].links[0]
        client, server = link.near.v4, link.far.v4
        strangers = {on_path_attacker.stranger(client), on_path_attacker.stranger(server)}
        on_path_attacker.make_reachable(link.far, link.near, on_path_attacker.stranger(client))
        on_path_attacker.make_reachable(link.near, link.far, on_path_attacker.stranger(server))
        task = {"count": MOST_REQUESTS, "rate": 50.0, "size_bytes": 300}
        sent: dict[str, int] = {}
        with Capture(link, case.directory) as capture, case.target(self.workload, **task):
            with case.user(self.workload, **task) as program:
                wait_until(
                    lambda: len(eavesdropper.read(capture.files[0], 400)) >= 300, 20, "300 frames to record"
                )
                line = on_path_attacker.watched(eavesdropper.read(capture.files[0]), client, server)
                for attack in on_path_attacker.attacks(line, case.plan.seed):
                    count = on_path_attacker.send(link, line, attack)
                    sent[attack.name] = sent.get(attack.name, 0) + count
                still_running = program.running
                dropped = [drops(case, node, leg) for node, leg in ((0, "egress"), (1, "ingress"))]
                program.ask_to_end()
                report = case.report("kcpg under attack", program)
            time.sleep(0.5)  # so that an answer could cross the cable
        case.outcome.facts["attacks"] = ", ".join(f"{name} {count}" for name, count in sent.items())
        case.expect("the flow ran during all attacks", still_running)
        for node, counted in zip(case.chain.nodes, dropped, strict=False):
            # Otherwise the attacks did not reach its socket and prove nothing. The line loses some of them.
            many = sum(counted.values()) > sum(sent.values()) * COUNTED
            case.expect(f"the {node.label} counted its drops", many, counted)
        answered, asked = report.get("times_ms", {}).get("count", 0), report.get("asked")
        case.expect("every request was answered", answered == asked, f"{answered} of {asked}")
        for side, path in zip(("near", "far"), capture.files, strict=True):
            answers = eavesdropper.to(eavesdropper.read(path), strangers)
            case.expect(f"{side}: unknown addresses get no answer", answers == 0, f"{answers} answers")
        case.work("kcpg afterwards", "server-first", count=3)


def drops(case: Case, node: int, leg: str) -> dict[str, int]:
    """The drops that a node reports, by reason."""
    status = case.chain.status(case.chain.nodes[node].label)
    found: dict[str, int] = {}
    for each in status.get("nodes", ()):
        facts = each.get(leg, {})
        counted = {**facts.get("drops", {}), "strangers": facts.get("counters", {}).get("strangers", 0)}
        for reason, count in counted.items():
            found[reason] = found.get(reason, 0) + count
    return found


class MaliciousPeer(Scenario):
    """A peer that has the key and attacks."""

    name = "malicious-peer"
    description = (
        "authentic datagrams from a peer with the key: far outside the window, wrong conv, sn, una, lengths"
    )
    dialects = ("native",)
    workload = "latency"
    modes = ("server", "relay")
    limit_s = 150.0

    def drive(self, case: Case) -> None:
        """Run another user's flow meanwhile. The peer also asks honest questions, which get their answers."""
        node, stage = case.chain.nodes[1], case.topology.stages[0]
        address = next(each for each in stage.addresses if (":" in each) == (case.plan.family == 6))
        options = {**PRESET, **case.plan.options}
        order = {
            "host": address,
            "port": TUNNEL_PORTS[0],
            "key": stage_key(case.plan.seed, 1),
            "algorithm": options["encryption_algorithm"],
            "seed": case.plan.seed,
            "count": on_path_attacker.COPIES,
        }
        words = case.topology.client.command(
            [sys.executable, "-m", "harness.malicious_peer", json.dumps(order)]
        )
        task = {"count": MOST_REQUESTS, "rate": 50.0, "size_bytes": 300}
        with case.target(self.workload, **task), case.user(self.workload, **task) as program:
            before = node.program.peak_rss_bytes()
            with Program("malicious peer", words, case.directory / "malicious_peer.log") as peer:
                peer.wait(self.limit_s)
                found = json.loads(peer.output().strip().splitlines()[-1])
            grown = node.program.peak_rss_bytes() - before
            still_running = program.running
            dropped = drops(case, 1, "ingress")
            program.ask_to_end()
            report = case.report("kcpg beside the malicious peer", program)
        sent = found["sent"]
        case.outcome.facts["attacks"] = ", ".join(f"{name} {count}" for name, count in sent.items())
        case.expect("the link and its honest flow survived", not found["errors"], found["errors"])
        case.expect("the other flow ran during all attacks", still_running)
        for reason in ("kcp_malformed", "conv_unknown", "frame_unknown"):
            # At least one attack causes nothing but drops of this reason; the line loses some of it.
            many = dropped.get(reason, 0) > on_path_attacker.COPIES * REACHED
            case.expect(f"the {node.label} counted {reason}", many, dropped)
        case.expect("its memory stays bounded", grown <= GROWN_BYTES, f"{grown / 1e6:.1f} MB more")
        answered, asked = report.get("times_ms", {}).get("count", 0), report.get("asked")
        case.expect("every request was answered", answered == asked, f"{answered} of {asked}")
        case.work("kcpg afterwards", "server-first", count=3)


class Hopping(Scenario):
    """Hops, against lines that slow a port down after a while."""

    name = "hopping"
    dialects = ("native", "kcptube")  # a link of kcptun's cannot move
    description = "with dport_refresh=20, the captures show new ports after a while, and the flow goes on"
    workload = "latency"
    modes = ("server", "relay")
    options: ClassVar[Mapping[str, str]] = {"dport_refresh": "20"}
    limit_s = 120.0

    def drive(self, case: Case) -> None:
        """Run for one and a half hops; 20 s is the shortest interval that kcpg accepts."""
        link = case.topology.stages[0].links[0]
        task = {"count": 300, "rate": 10.0, "size_bytes": 300}
        with Capture(link, case.directory) as capture:
            report = case.work("kcpg", self.workload, **task)
        answered = report.get("times_ms", {}).get("count", 0)
        case.expect("every request was answered", answered == task["count"], f"{answered} of {task['count']}")
        seen = eavesdropper.read(capture.files[0])
        sent = [each for each in seen if each.source in link.near.addresses]
        for end, ports in (
            ("server", {each.target_port for each in sent}),
            ("client", {each.source_port for each in sent}),
        ):
            case.expect(f"the port of the {end} really changed", len(ports) > 1, sorted(ports))


SCENARIOS = (Eavesdropper(), OnPathAttacker(), MaliciousPeer(), Hopping())
