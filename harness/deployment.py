"""A chain of kcpg nodes in a topology: gives each stage its key, its ports and its rates."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.chain import ask_status, kcpg_command, port_list
from harness.netns import Namespace
from harness.process import Program
from harness.topology import Stage, Topology

ENTRY_PORT, TARGET_PORT = 59000, 8000
LOOPBACK = "127.0.0.1"

TUNNEL_PORTS = (3000, 3001, 3002, 3003)  # Of every listening node

# How long a node may take to be ready: a second on an idle machine, ten in a guest kernel on a busy one.
READY_S = 60.0

# The fraction of a line's rate that a node is configured with. It counts UDP payloads; Ethernet, IP and UDP
# headers take 3 % of a full frame, and acknowledgements need room as well.
RATE_SHARE = 0.9

# The configuration of a case unless it sets something else.
PRESET = {"kcp": "auto", "encryption_algorithm": "AES-GCM"}


# The same by dialect: other programs' protocols have neither `kcp=auto` nor keys.
PRESETS = {
    "native": PRESET,
    "kcptube": {"kcp": "regular3", "encryption_algorithm": "AES-GCM"},
    "kcptun": {"kcp": "regular3", "encryption_algorithm": "aes", "fec": "10:3"},
}


@dataclass(frozen=True)
class Node:
    """A running node."""

    label: str
    namespace: Namespace
    config: Path
    program: Program


@dataclass(frozen=True)
class Deployment:
    """A running chain, from the client to the server. Applications beside the client talk to `entry`."""

    nodes: tuple[Node, ...]
    entry: tuple[str, int]
    environ: Mapping[str, str]

    def status(self, label: str) -> dict[str, Any]:
        """The report of `kcpg status --json` about a node; empty if there is none."""
        node = next(node for node in self.nodes if node.label == label)
        words = [*kcpg_command(), "status", "--json", str(node.config)]
        return ask_status(node.namespace.command(words), self.environ)

    def ended(self) -> list[str]:
        """Nodes that have exited, each with its last lines."""
        return [
            f"{node.label} has exited:\n{node.program.output()[-600:]}"
            for node in self.nodes
            if not node.program.running
        ]


@contextmanager
def deployed(
    topology: Topology,
    directory: Path,
    seed: str,
    options: Mapping[str, str],
    family: int = 4,
    words: Sequence[str] = (),
) -> Iterator[Deployment]:
    """Write the configurations, start the nodes, wait until all are ready; end them at the end.

    `family`, 4 or 6, is preferred for dialling; `words`: for the command line of each. Raises Failed if a
    node does not start.
    """
    environ = {"KCPG_STATE_DIR": str(directory / "state")}
    texts = configurations(topology.stages, seed, options, family)
    with ExitStack() as stack:
        nodes: list[Node] = []
        try:
            for label, text in reversed(texts.items()):
                config = directory / f"{label}.conf"
                config.write_text(text, encoding="utf-8")
                config.chmod(0o600)  # it holds a key
                namespace = topology.nodes[label]
                command = namespace.command([*kcpg_command(), *words, str(config)])
                topology.lab.note(" ".join(command))
                program = Program(label, command, directory / f"{label}.log", environ)
                stack.enter_context(program)
                nodes.insert(0, Node(label, namespace, config, program))
            for node in nodes:
                node.program.wait_for(r"^kcpg: ready", READY_S)
            yield Deployment(tuple(nodes), (LOOPBACK, ENTRY_PORT), environ)
        finally:
            for node in nodes:
                node.program.ask_to_end()  # all at once: they need not wait for each other


def configurations(
    stages: Sequence[Stage], seed: str, options: Mapping[str, str], family: int
) -> dict[str, str]:
    """A configuration for every node, by its label, from the client to the server."""
    dialect = options.get("dialect", "native")
    secret = "encryption_key" if dialect == "native" else "encryption_password"
    shared = {**PRESETS[dialect], **options}
    dialling, listening = [], []
    for number, stage in enumerate(stages, 1):
        key = {secret: stage_key(seed, number)}
        both = shared if shared["encryption_algorithm"] == "none" else {**shared, **key}
        wanted = [each for each in stage.addresses if (":" in each) == (family == 6)] or stage.addresses
        where = {
            "destination_address": ",".join(wanted),
            "destination_port": port_list(TUNNEL_PORTS),
        }
        dialling.append(_lines({**_rates(stage, "up"), **both, **where}))
        listening.append(_lines({**_rates(stage, "down"), **both, "listen_port": port_list(TUNNEL_PORTS)}))
    texts = {"client": f"mode=client\nlisten_on={LOOPBACK}\nlisten_port={ENTRY_PORT}\n{dialling[0]}"}
    for number, stage in enumerate(stages[:-1]):
        texts[stage.listener] = (
            f"mode=relay\n[listener]\n{listening[number]}[forwarder]\n{dialling[number + 1]}"
        )
    target = f"destination_address={LOOPBACK}\ndestination_port={TARGET_PORT}\n"
    texts["server"] = f"mode=server\n{listening[-1]}{target}"
    return texts


def stage_key(seed: str, number: int) -> str:
    """The `encryption_key` of a stage, counted from 1; the same seed gives the same key."""
    return base64.b64encode(hashlib.sha256(f"{seed}:{number}".encode()).digest()).decode()


def _rates(stage: Stage, way: str) -> dict[str, str]:
    """The bandwidths that a user who knows the lines would configure: those of the slowest line.

    Nobody knows the rate of a line that changes; where there is one, nothing is configured.
    """
    impairs = [getattr(link.profile, way) for link in stage.links if link.profile is not None]
    if any(impair.trace is not None or impair.steps or impair.cross is not None for impair in impairs):
        return {}
    rates = [impair.rate_bps for impair in impairs if impair.rate_bps]
    return {"outbound_bandwidth": str(int(min(rates) * RATE_SHARE))} if rates else {}


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())
