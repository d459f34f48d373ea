"""What a tunnel is given: a client's configuration in any of its forms, and targets as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kcpg.app import invitation, legsettings_native
from kcpg.app.config import load, load_text
from kcpg.app.config.addresses import host
from kcpg.app.config.model import LegConfig, Role
from kcpg.app.config.values import BadValue
from kcpg.app.rootkeys import derive, secret
from kcpg.core.env import Env
from kcpg.core.flow import Target
from kcpg.core.native.dial.dialer import TunnelDialer
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.errors import ConfigurationError

if TYPE_CHECKING:
    from kcpg.app.foreignlegs import ForeignDialer

MAX_STREAMS = 65_536  # At once, as a node's default for max_flows


def read(config: str | Path) -> LegConfig:
    """The tunnel of a client's configuration: a path, the text of a file, or an invitation. Where that
    client would listen does not count. Raises ConfigurationError."""
    if isinstance(config, Path):
        loaded = load([config])
    elif invitation.is_invitation(config):
        loaded = load_text("invitation", invitation.read(config).configuration())
    else:
        loaded = load_text("configuration", config)
    if not loaded.ok:
        raise ConfigurationError("; ".join(map(str, loaded.errors)))
    (node,) = loaded.nodes
    if node.role is not Role.CLIENT:
        raise ConfigurationError(f"this is the configuration of a {node.role.value}, not of a client")
    if node.egress.dnstxt:
        raise ConfigurationError("destination_dnstxt is for the command; look the address up and write it")
    return node.egress


def target(text: str | None) -> Target | None:
    """`host:port`, an IPv6 address in brackets; None: the server's own. Raises ValueError."""
    if text is None:
        return None
    name, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) <= 0xFFFF:
        raise ValueError(f"{text!r} is no target: it has no port")
    try:
        found = host(name)
    except BadValue as bad:
        raise ValueError(f"{text!r} is no target: {bad.reason}") from None
    return Target(found, int(port))


def root_keys(config: LegConfig) -> RootKeys | None:
    """The keys of the secret; None in other programs' dialects, which derive their own. A password takes
    0.1 s and 32 MiB."""
    if not config.is_native:
        return None
    return derive(secret(config))


def dialer(config: LegConfig, keys: RootKeys | None, env: Env) -> TunnelDialer | ForeignDialer:
    """The leg that dials."""
    if keys is None:
        from kcpg.app import foreignlegs

        return foreignlegs.dialer(config, env)
    return TunnelDialer(legsettings_native.dial_settings(config, MAX_STREAMS), keys, env)
