"""Merges the snapshots of a node's workers into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kcpg.app.metrics import Snapshot

_OLDEST = frozenset({"uptime_s", "for_s"})  # Numbers of which the largest counts; all others are summed

_LISTS = ("links", "flow_list", "users")  # Lists whose entries say which worker has them


def merge(found: Mapping[int, Snapshot]) -> Snapshot:
    """One node's snapshot from those of its workers, by number. Sums counts, concatenates lists."""
    whole: Snapshot = {}
    for worker in sorted(found):
        _add(whole, _numbered(found[worker], worker))
    return whole


def _numbered(value: Any, worker: int) -> Any:
    """A copy in which links and flows carry the number of their worker."""
    if not isinstance(value, dict):
        return value
    copy = {name: _numbered(part, worker) for name, part in value.items()}
    for name in _LISTS:
        if name in copy:
            copy[name] = [{"worker": worker, **entry} for entry in copy[name]]
    return copy


def _add(whole: Snapshot, part: Snapshot) -> None:
    for name, value in part.items():
        if whole.get(name) is None:
            whole[name] = value
        elif isinstance(value, dict):
            _add(whole[name], value)
        elif isinstance(value, list):
            whole[name] = [*whole[name], *(one for one in value if one not in whole[name])]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            whole[name] = max(whole[name], value) if name in _OLDEST else whole[name] + value
