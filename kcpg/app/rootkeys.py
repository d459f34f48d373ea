"""The keys of a leg's secrets: of its password or key, and of its key pair if it has one."""

from __future__ import annotations

from typing import NamedTuple

from kcpg.app.config.model import LegConfig
from kcpg.core.native.handshake.keys import KeyPair, RootKeys


class Secret(NamedTuple):
    """What the keys of a leg are derived from. Of password and key only one counts."""

    password: bytes
    key: bytes | None
    private_key: bytes | None  # None: there are no key pairs
    server_key: bytes  # Of a leg that dials

    def __repr__(self) -> str:  # keys never reach a log
        return "Secret(…)"


def secret(config: LegConfig) -> Secret:
    """The secrets of a native tunnel leg."""
    return Secret(config.password, config.key, config.private_key, config.server_key)


def derive(of: Secret) -> RootKeys:
    """The keys. A password takes 0.1 s and 32 MiB."""
    pair = KeyPair(of.private_key, of.server_key) if of.private_key is not None else None
    if of.key is not None:
        return RootKeys.from_key(of.key, pair)
    if pair is not None and not of.password:
        return RootKeys.from_pair(pair)
    return RootKeys.from_password(of.password, pair)
