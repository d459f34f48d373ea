"""Who listens learns nothing, and who interferes changes nothing.

client ==(tcpdump)====(tcpdump)== server        the opponent sends from both ends of the cable
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from harness import opponent, witness
from harness.capture import Capture
from harness.cell import Cell, Skipped, wait_until
from harness.deployment import PRESET, TUNNEL_PORTS, stage_key
from harness.link import ETHERNET_MTU, Link
from harness.process import Program
from harness.scenarios.base import Scenario

# Of the flow under attack; it ends when the attacks are over, which takes some ten seconds.
MOST_REQUESTS = 4000

# Of all attacks each node counts about half, as they are on both nodes alike; the line loses some.
COUNTED = 0.35

MOST_OVERHEAD = 1.5  # Wire bytes for each payload byte: 1.1 is usual on the lines of this scenario

REACHED = 0.7  # Of an attack by the insider at least so much comes through the line

GROWN_BYTES = 64_000_000  # Of a node, while somebody opens thousands of conversations

# No value of any byte near the beginning of a datagram is more frequent; 1/256 is what chance gives.
UNCOMMON = 0.05


class Witness(Scenario):
    """Captures of both ends are read back."""

    name = "witness"
    description = "captures of both ends: no plaintext, no fragment, no datagram too large, nothing constant"
    dialects = ("native",)
    workload = "half-close"
    modes = ("server", "relay")

    def drive(self, cell: Cell) -> None:
        """A known text and known bytes go through, then the captures are searched for them."""
        link = cell.topology.stages[0].links[0]
        with Capture(link, cell.directory) as capture:
            cell.work("kcpg bytes", "half-close", size_bytes=400_000)
            cell.work("kcpg words", "server-first", count=5)
        seed = int(cell.plan.seed) if cell.plan.seed.isdigit() else sum(cell.plan.seed.encode())
        sent = random.Random(f"{seed}:question").randbytes(400_000)
        for side, path in zip(("near", "far"), capture.files, strict=True):
            look(cell, link, side, path)
            found = [at for at in range(0, len(sent), 20_000) if witness.holds(path, sent[at : at + 16])]
            cell.expect(f"{side}: nothing of what was sent", not found, found)
            cell.expect(f"{side}: no greeting in clear", not witness.holds(path, b"speak after me"))
        near = witness.read(capture.files[0])
        wire = sum(each.ip_bytes for each in near)
        payload = cell.outcome.measured["kcpg bytes"].get("bytes", 1)
        # What the capture has not seen it cannot speak about; and nothing is sent again and again.
        cell.expect("near: all of the payload was seen", payload <= wire <= MOST_OVERHEAD * payload, wire)
        cell.outcome.facts["wire_overhead"] = wire / payload - 1


def look(cell: Cell, link: Link, side: str, path: Path, mtu: int = ETHERNET_MTU) -> None:
    """What every capture of a tunnel must be like; `mtu`: the cable's."""
    seen = witness.read(path)
    mtu = min(int(cell.plan.options.get("mtu", mtu)), mtu)
    cell.expect(f"{side}: the tunnel was seen", len(seen) > 100, len(seen))
    cell.expect(
        f"{side}: only the tunnel",
        not witness.foreign(seen, TUNNEL_PORTS),
        witness.foreign(seen, TUNNEL_PORTS),
    )
    cell.expect(f"{side}: no IP fragment", witness.fragments(seen) == 0, witness.fragments(seen))
    cell.expect(f"{side}: no packet above {mtu} bytes", witness.largest(seen) <= mtu, witness.largest(seen))
    at, share = witness.most_constant(seen)
    cell.expect(f"{side}: no constant byte", share < UNCOMMON, f"byte {at}: {share:.1%} have the same value")


class Opponent(Scenario):
    """Somebody on the line does what they can."""

    name = "opponent"
    description = (
        "replay, reflection, bit flips, truncation, floods, spoofed sources, forged handshakes under a flow"
    )
    dialects = ("native",)
    workload = "latency"
    modes = ("server", "relay")
    limit_s = 90.0

    def drive(self, cell: Cell) -> None:
        """A flow of small requests runs meanwhile; every answer must be right, and strangers hear nothing."""
        if cell.plan.family == 6:
            raise Skipped("the opponent makes IPv4 packets: the tunnel has to be IPv4")
        link = cell.topology.stages[0].links[0]
        client, server = link.near.v4, link.far.v4
        strangers = {opponent.stranger(client), opponent.stranger(server)}
        opponent.make_reachable(link.far, link.near, opponent.stranger(client))
        opponent.make_reachable(link.near, link.far, opponent.stranger(server))
        task = {"count": MOST_REQUESTS, "rate": 50.0, "size_bytes": 300}
        sent: dict[str, int] = {}
        with Capture(link, cell.directory) as capture, cell.target(self.workload, **task):
            with cell.user(self.workload, **task) as program:
                wait_until(
                    lambda: len(witness.read(capture.files[0], 400)) >= 300, 20, "300 frames to record"
                )
                line = opponent.watched(witness.read(capture.files[0]), client, server)
                for attack in opponent.attacks(line, cell.plan.seed):
                    count = opponent.send(link, line, attack)
                    sent[attack.name] = sent.get(attack.name, 0) + count
                still_running = program.running
                dropped = [drops(cell, node, leg) for node, leg in ((0, "egress"), (1, "ingress"))]
                program.ask_to_end()
                report = cell.report("kcpg under attack", program)
            time.sleep(0.5)  # what an answer would need to cross the cable
        cell.outcome.facts["attacks"] = ", ".join(f"{name} {count}" for name, count in sent.items())
        cell.expect("the flow ran during all attacks", still_running)
        for node, counted in zip(cell.chain.nodes, dropped, strict=False):
            # Else the attacks did not reach its socket, and prove nothing. The line itself loses some.
            many = sum(counted.values()) > sum(sent.values()) * COUNTED
            cell.expect(f"the {node.label} counted what it dropped", many, counted)
        answered, asked = report.get("times_ms", {}).get("count", 0), report.get("asked")
        cell.expect("every request was answered", answered == asked, f"{answered} of {asked}")
        for side, path in zip(("near", "far"), capture.files, strict=True):
            answers = witness.to(witness.read(path), strangers)
            cell.expect(f"{side}: strangers hear nothing", answers == 0, f"{answers} answers")
        cell.work("kcpg afterwards", "server-first", count=3)


def drops(cell: Cell, node: int, leg: str) -> dict[str, int]:
    """What a node says it has dropped, by reason."""
    status = cell.chain.status(cell.chain.nodes[node].label)
    found: dict[str, int] = {}
    for each in status.get("nodes", ()):
        facts = each.get(leg, {})
        counted = {**facts.get("drops", {}), "strangers": facts.get("counters", {}).get("strangers", 0)}
        for reason, count in counted.items():
            found[reason] = found.get(reason, 0) + count
    return found


class Insider(Scenario):
    """Somebody with the key who is not a friend."""

    name = "insider"
    description = (
        "authentic datagrams of a party with the key: far out of the window, wrong conv, sn, una, lengths"
    )
    dialects = ("native",)
    workload = "latency"
    modes = ("server", "relay")
    limit_s = 150.0

    def drive(self, cell: Cell) -> None:
        """A flow of somebody else runs meanwhile. The insider asks honestly now and then, and is answered."""
        node, stage = cell.chain.nodes[1], cell.topology.stages[0]
        address = next(each for each in stage.addresses if (":" in each) == (cell.plan.family == 6))
        options = {**PRESET, **cell.plan.options}
        order = {
            "host": address,
            "port": TUNNEL_PORTS[0],
            "key": stage_key(cell.plan.seed, 1),
            "algorithm": options["encryption_algorithm"],
            "seed": cell.plan.seed,
            "count": opponent.COPIES,
        }
        words = cell.topology.client.command([sys.executable, "-m", "harness.insider", json.dumps(order)])
        task = {"count": MOST_REQUESTS, "rate": 50.0, "size_bytes": 300}
        with cell.target(self.workload, **task), cell.user(self.workload, **task) as program:
            before = node.program.peak_rss_bytes()
            with Program("insider", words, cell.directory / "insider.log") as insider:
                insider.wait(self.limit_s)
                found = json.loads(insider.output().strip().splitlines()[-1])
            grown = node.program.peak_rss_bytes() - before
            still_running = program.running
            dropped = drops(cell, 1, "ingress")
            program.ask_to_end()
            report = cell.report("kcpg beside the insider", program)
        sent = found["sent"]
        cell.outcome.facts["attacks"] = ", ".join(f"{name} {count}" for name, count in sent.items())
        cell.expect("the link and its honest flow lived through it", not found["errors"], found["errors"])
        cell.expect("the other flow ran during all attacks", still_running)
        for reason in ("kcp_malformed", "conv_unknown", "frame_unknown"):
            # Each has one attack at least that is of nothing else; the line loses some of it.
            many = dropped.get(reason, 0) > opponent.COPIES * REACHED
            cell.expect(f"the {node.label} counted {reason}", many, dropped)
        cell.expect("its memory is bounded", grown <= GROWN_BYTES, f"{grown / 1e6:.1f} MB more")
        answered, asked = report.get("times_ms", {}).get("count", 0), report.get("asked")
        cell.expect("every request was answered", answered == asked, f"{answered} of {asked}")
        cell.work("kcpg afterwards", "server-first", count=3)


class Hopping(Scenario):
    """Lines that slow a port down after a while."""

    name = "hopping"
    description = "with dport_refresh=20 the captures show other ports after a while, and the flow goes on"
    workload = "latency"
    modes = ("server", "relay")
    options: ClassVar[Mapping[str, str]] = {"dport_refresh": "20"}
    limit_s = 120.0

    def drive(self, cell: Cell) -> None:
        """The time of a hop and a half; 20 s is the shortest that kcpg takes."""
        link = cell.topology.stages[0].links[0]
        task = {"count": 300, "rate": 10.0, "size_bytes": 300}
        with Capture(link, cell.directory) as capture:
            report = cell.work("kcpg", self.workload, **task)
        answered = report.get("times_ms", {}).get("count", 0)
        cell.expect("every request was answered", answered == task["count"], f"{answered} of {task['count']}")
        seen = witness.read(capture.files[0])
        sent = [each for each in seen if each.source in link.near.addresses]
        for end, ports in (
            ("server", {each.target_port for each in sent}),
            ("client", {each.source_port for each in sent}),
        ):
            cell.expect(f"the port of the {end} really changed", len(ports) > 1, sorted(ports))


SCENARIOS = (Witness(), Opponent(), Insider(), Hopping())
