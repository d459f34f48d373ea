"""Tunnel legs in other programs' dialects, which keep what their links have carried once these are over.

Imported only where a configuration names such a dialect: they take as long as all of the native one.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kcpg.app import legsettings_kcptube, legsettings_kcptun
from kcpg.app.config.model import LegConfig
from kcpg.app.metrics import foreign_totals
from kcpg.core import kcptube, kcptun
from kcpg.core.kcptube.dialer import TubeDialer
from kcpg.core.kcptube.listener import TubeListener
from kcpg.core.kcptun.dialer import TunDialer
from kcpg.core.kcptun.link import LinkState
from kcpg.core.kcptun.listener import TunListener

if TYPE_CHECKING:
    from kcpg.core.env import Env
    from kcpg.core.flow import Reset

ForeignDialer = TubeDialer | TunDialer
ForeignListener = TubeListener | TunListener


def listener(config: LegConfig, max_flows: int, env: Env) -> ForeignListener:
    """The leg that listens."""
    if config.is_kcptube:
        return CountingTubeListener(legsettings_kcptube.listen_settings(config, max_flows), env)
    return CountingTunListener(legsettings_kcptun.listen_settings(config, max_flows), env)


def dialer(config: LegConfig, env: Env) -> ForeignDialer:
    """The leg that dials."""
    if config.is_kcptube:
        return CountingTubeDialer(legsettings_kcptube.dial_settings(config), env)
    return CountingTunDialer(legsettings_kcptun.dial_settings(config), env)


def lacks(config: LegConfig) -> str:
    """What the dialect lacks in every implementation, in words."""
    return kcptube.LACKS if config.is_kcptube else kcptun.LACKS


def in_words(config: LegConfig) -> str:
    """The parameters of a link: they are configured, not agreed on."""
    settings = legsettings_kcptun if config.is_kcptun else legsettings_kcptube
    size = settings.wire_format(config).datagram_bytes
    return f"{config.dialect.value}'s protocol, {config.algorithm}, datagrams of {size} bytes"


def answers(config: LegConfig, link: Any) -> bool:
    """Whether somebody is there. A link in kcptun's format is there as soon as it is called."""
    return not config.is_kcptun or link.state is LinkState.UP


class _Counting:
    """A leg that keeps the totals of the links that are over."""

    @cached_property
    def ended(self) -> Counter[str]:
        """The totals (`metrics.foreign_totals`) of the links that are over."""
        return Counter()

    def link_over(self, link: Any, reason: Reset | None) -> None:
        """Add up what the link has carried."""
        self.ended.update(foreign_totals(link))
        super().link_over(link, reason)  # type: ignore[misc]  # that of the leg below


class CountingTubeDialer(_Counting, TubeDialer):
    """A TubeDialer that keeps totals."""


class CountingTubeListener(_Counting, TubeListener):
    """A TubeListener that keeps totals."""


class CountingTunDialer(_Counting, TunDialer):
    """A TunDialer that keeps totals."""


class CountingTunListener(_Counting, TunListener):
    """A TunListener that keeps totals."""
