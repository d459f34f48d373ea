"""Applying an edited configuration to a running process without touching the nodes it does not concern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kcpg.app.config.explain import log as log_problems
from kcpg.app.config.explain import read, summary
from kcpg.app.config.model import NodeConfig
from kcpg.app.logs import process_log
from kcpg.app.run import KeyRing, derive_keys
from kcpg.app.workers.supervisor import AnyNode, make_node
from kcpg.errors import StartError


@dataclass(frozen=True)
class Plan:
    """What an edited configuration asks for, by position in the new list of nodes."""

    kept: dict[int, int]  # New position → old position of a node that goes on untouched
    started: tuple[int, ...]  # New positions of nodes that must start: their configuration is new or differs
    stopped: tuple[int, ...]  # Old positions of nodes that must end first, so that their ports are free


def compare(old: Sequence[NodeConfig], new: Sequence[NodeConfig]) -> Plan:
    """Pair equal configurations; everything else stops or starts."""
    free = list(range(len(old)))
    kept = {}
    for position, config in enumerate(new):
        match = next((index for index in free if old[index] == config), None)
        if match is not None:
            kept[position] = match
            free.remove(match)
    started = tuple(position for position in range(len(new)) if position not in kept)
    return Plan(kept, started, tuple(free))


def apply(paths: list[Path], running: list[AnyNode], form: str) -> list[AnyNode]:
    """Read the files again and run what they say now; returns the nodes that run afterwards.

    Errors in the files, or a node that does not start, leave (or bring back) what ran before, and the log
    says why.
    """
    log = process_log()
    loaded = read(paths)
    log_problems(loaded.problems)
    if not loaded.ok:
        log.error("configuration not applied, the old one stays: %s", summary(loaded.problems))
        return running
    plan = compare([node.config for node in running], loaded.nodes)
    if not plan.started and not plan.stopped:
        log.info("configuration read again: nothing changed")
        return running
    try:
        keys = derive_keys([loaded.nodes[position] for position in plan.started])
        after = _replace(plan, running, loaded.nodes, keys, form)
    except StartError as error:
        after = _restore(running, form)
        log.error("configuration not applied, the old one runs again: %s", error)
        return after
    log.info("configuration applied: %d nodes started, %d unchanged", len(plan.started), len(plan.kept))
    return after


def _replace(
    plan: Plan, running: list[AnyNode], configs: Sequence[NodeConfig], keys: KeyRing, form: str
) -> list[AnyNode]:
    for position in plan.stopped:
        running[position].close("the node is configured anew")
    after: list[AnyNode] = []
    try:
        for position, config in enumerate(configs):
            if position in plan.kept:
                after.append(running[plan.kept[position]])
                continue
            node = make_node(config, keys, form)
            node.start()
            after.append(node)
    except StartError:
        for node in after:
            if node not in running:
                node.close("the configuration could not be applied")
        raise
    return after


def _restore(running: list[AnyNode], form: str) -> list[AnyNode]:
    """Start again, with their old configuration, those of `running` that were closed."""
    after = []
    for node in running:
        if not node.closed:
            after.append(node)
            continue
        try:
            again = make_node(node.config, node.keys, form)
            again.start()
            after.append(again)
        except StartError as error:
            process_log().error("%s does not start with its old configuration: %s", node.config.name, error)
    return after
