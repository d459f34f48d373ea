"""Applies an edited configuration to a running process; nodes that it does not change go on untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kcpg.app.config.explain import log as log_problems
from kcpg.app.config.explain import read, summary
from kcpg.app.config.model import NodeConfig, UserConfig
from kcpg.app.logs import process_log
from kcpg.app.run import KeyRing, derive_keys
from kcpg.app.workers.supervisor import AnyNode, make_node
from kcpg.errors import StartError

NAMES_SHOWN = 10  # Of users, in a line about a change


@dataclass(frozen=True)
class Plan:
    """What an edited configuration changes."""

    kept: dict[int, int]  # New position → old position of an unchanged node
    started: tuple[int, ...]  # New positions of nodes that must start: new ones and changed ones
    stopped: tuple[int, ...]  # Old positions of nodes that must end first, to free their ports


class Applied(NamedTuple):
    """What came of an edited configuration."""

    nodes: list[AnyNode]  # Those that run now
    ok: bool  # Whether they are those of the edited configuration
    text: str  # The result in words, as in the log
    configs: Sequence[NodeConfig] | None = None  # Those that were read, if they are in force


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


def apply(files: list[Path], running: list[AnyNode], form: str, before: Sequence[NodeConfig] = ()) -> Applied:
    """Reread the files and apply them. `before`: what was read the last time, for what is no part of a node.

    If the files have errors or a node does not start, the old nodes stay, or start again, and the log says
    why.
    """
    log = process_log()
    loaded = read(files)
    log_problems(loaded.problems)
    if not loaded.ok:
        text = f"kept the old configuration: {summary(loaded.problems)}"
        log.error("%s", text)
        return Applied(running, False, f"{text}: {loaded.errors[0]}")
    if running and (why := _changes_user(running[0].config, loaded.nodes)):
        log.error("kept the old configuration: %s", why)
        return Applied(running, False, f"kept the old configuration: {why}")
    plan = compare([node.config for node in running], loaded.nodes)
    if not plan.started and not plan.stopped:
        changes = _set_users(plan, running, loaded.nodes)
        text = f"reread the configuration: {changes or 'nothing has changed'}"
        if not changes and _pages(before) != _pages(loaded.nodes):
            text = "applied the configuration: it changes what the process serves, and no node"
        log.info("%s", text)
        return Applied(running, True, text, loaded.nodes)
    try:
        keys = derive_keys([loaded.nodes[position] for position in plan.started])
        after = _replace(plan, running, loaded.nodes, keys, form)
    except StartError as error:
        after = _restore(running, form)
        log.error("restored the old configuration: %s", error)
        return Applied(after, False, f"restored the old configuration: {error}")
    except Exception as error:  # a bug: what was closed for the new configuration must not stay away
        log.exception("cannot apply the configuration, restoring the old one")
        return Applied(_restore(running, form), False, f"cannot apply the configuration: {error}")
    told = _set_users(plan, running, loaded.nodes)
    text = f"applied the configuration (nodes started: {len(plan.started)}, unchanged: {len(plan.kept)})"
    text += f"; {told}" if told else ""
    log.info("%s", text)
    return Applied(after, True, text, loaded.nodes)


def _pages(configs: Sequence[NodeConfig]) -> list[tuple[str, str, str, str]]:
    """Where the process serves figures, and to whom."""
    every = [(one.metrics_listen, one.web_listen, one.web_token, one.health_listen) for one in configs]
    return [one for one in every if any(one)]


def _set_users(plan: Plan, running: Sequence[AnyNode], configs: Sequence[NodeConfig]) -> str:
    """Give the nodes that go on the users of the new configuration; what that changes, in words."""
    changes = []
    for position, old in plan.kept.items():
        node, config = running[old], configs[position]
        before, after = node.config.ingress.users, config.ingress.users
        if before != after:
            node.set_users(config)
            changes.append(_user_changes(before, after))
    return "; ".join(changes)


def _user_changes(before: Sequence[UserConfig], after: Sequence[UserConfig]) -> str:
    """`users added: ann; removed: ben; changed: carl`."""
    old, new = {one.name: one for one in before}, {one.name: one for one in after}
    words = {
        "users added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name, one in new.items() if name in old and one != old[name]],
    }
    found = [f"{word}: {_some(names)}" for word, names in words.items() if names]
    return "; ".join(found) or "the order of the users has changed"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


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
