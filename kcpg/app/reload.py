"""Applies an edited configuration to a running process; nodes that it does not change go on untouched."""

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
    """What an edited configuration changes."""

    kept: dict[int, int]  # New position → old position of an unchanged node
    started: tuple[int, ...]  # New positions of nodes that must start: new ones and changed ones
    stopped: tuple[int, ...]  # Old positions of nodes that must end first, to free their ports


def compare(old: Sequence[NodeConfig], new: Sequence[NodeConfig]) -> Plan:
    """Pair equal configurations; the others stop or start."""
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
    """Reread the files and apply them; returns the nodes that run afterwards.

    If the files have errors or a node does not start, the old nodes stay, or start again, and the log says
    why.
    """
    log = process_log()
    loaded = read(paths)
    log_problems(loaded.problems)
    if not loaded.ok:
        log.error("kept the old configuration: %s", summary(loaded.problems))
        return running
    if running and (text := _changes_user(running[0].config, loaded.nodes)):
        log.error("kept the old configuration: %s", text)
        return running
    plan = compare([node.config for node in running], loaded.nodes)
    if not plan.started and not plan.stopped:
        log.info("reread the configuration: nothing has changed")
        return running
    try:
        keys = derive_keys([loaded.nodes[position] for position in plan.started])
        after = _replace(plan, running, loaded.nodes, keys, form)
    except StartError as error:
        after = _restore(running, form)
        log.error("restored the old configuration: %s", error)
        return after
    except Exception:  # a bug: what was closed for the new configuration must not stay away
        log.exception("cannot apply the configuration, restoring the old one")
        return _restore(running, form)
    log.info(
        "applied the configuration (nodes started: %d, unchanged: %d)", len(plan.started), len(plan.kept)
    )
    return after


def _changes_user(old: NodeConfig, new: Sequence[NodeConfig]) -> str:
    """Why a process cannot take this configuration; empty if its user and group stay the same."""
    if all((config.user, config.group) == (old.user, old.group) for config in new):
        return ""
    return "user and group change only with a restart of the process"


def _replace(
    plan: Plan, running: list[AnyNode], configs: Sequence[NodeConfig], keys: KeyRing, form: str
) -> list[AnyNode]:
    for position in plan.stopped:
        running[position].close("the node's configuration changes")
    after: list[AnyNode] = []
    try:
        for position, config in enumerate(configs):
            if position in plan.kept:
                after.append(running[plan.kept[position]])
                continue
            node = make_node(config, keys, form)
            node.start()
            after.append(node)
    except Exception:
        for node in after:
            if node not in running:
                node.close("the new configuration does not work")
        raise
    return after


def _restore(running: list[AnyNode], form: str) -> list[AnyNode]:
    """Restart those of `running` that were closed, with their old configuration."""
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
            process_log().error(
                "%s does not start even with its old configuration: %s", node.config.name, error
            )
    return after
