"""Keeps account of a node's users while it runs, and ends the links of those whose quota is used up.

The database is written in the thread pool every few seconds. A disk that is slow or full stops nothing: what
could not be written is written with the next, and a line in the log says so.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import gevent
import gevent.event

from kcpg.app import accountbook
from kcpg.app.accountbook import Book, together
from kcpg.app.config.model import NodeConfig, UserConfig
from kcpg.app.logs import NodeLog
from kcpg.app.wording import size
from kcpg.core.native.listener import TunnelListener
from kcpg.core.native.users import Usage
from kcpg.errors import KcpgError
from kcpg.net import clock

FLUSH_S = 2.0  # What a crash may lose, and how late a quota may be noticed

T = TypeVar("T")


class Account:
    """The account of one node, or of one worker of it."""

    def __init__(
        self, config: NodeConfig, listener: TunnelListener, log: NodeLog, advance: Callable[[], None]
    ) -> None:
        """`advance`: called after links were told to end."""
        self._config = config
        self._listener = listener
        self._log = log
        self._advance = advance
        self._book: Book | None = None
        self._unwritten: dict[str, Usage] = {}
        self._spent: dict[str, str] = {}
        self._asked: set[str] = set()  # users whose quota was looked up since the start
        self._flushing: gevent.Greenlet | None = None
        self._ending = gevent.event.Event()
        self._taken_s = time.monotonic()

    def start(self) -> None:
        """Open the database, if it can be, and begin."""
        # Before the process gives its rights up, so that it may write there afterwards.
        self._in_thread(lambda: self._write({}, [], 0))
        self._flushing = gevent.spawn(self._flush_on)

    def stop(self) -> None:
        """Write what is left. Idempotent."""
        if self._flushing is None:
            return
        self._ending.set()
        self._flushing.join()  # what it is writing must not be written twice
        self._flushing = None
        self.flush()
        if self._book is not None:
            self._book.close()

    def set_users(self, config: NodeConfig) -> None:
        """Other users are known from now on, with other quotas."""
        self._config = config
        self._asked.clear()

    def flush(self) -> None:
        """Write what was used since the last time, and see whose quota it has used up."""
        wall_s, now_s = clock.wall_s(), time.monotonic()
        used = self._listener.take_usage(now_s - self._taken_s)
        self._taken_s = now_s
        self._unwritten = together([self._unwritten, used])
        asked = [user for user in self._config.ingress.users if self._matters(user, used)]
        done = self._in_thread(lambda: self._write(self._unwritten, asked, wall_s))
        if done is None:
            return
        self._unwritten = {}
        self._asked.update(user.name for user in asked)
        self._judge(asked, done)

    def _matters(self, user: UserConfig, used: Mapping[str, Usage]) -> bool:
        """Whether his quota must be looked up."""
        if user.quota is None:
            return user.name in self._spent
        return user.name in used or user.name in self._spent or user.name not in self._asked

    def _write(self, used: Mapping[str, Usage], asked: list[UserConfig], wall_s: int) -> list[int]:
        if self._book is None:
            self._book = Book(accountbook.find_directory(os.environ) / accountbook.FILE, self._config.file)
        if used:
            self._book.add(used, wall_s)
        return [
            self._book.used_bytes(user.name, accountbook.since(user.quota.period, wall_s))
            if user.quota is not None
            else 0
            for user in asked
        ]

    def _judge(self, asked: list[UserConfig], found: list[int]) -> None:
        before = dict(self._spent)
        for user, used_bytes in zip(asked, found, strict=True):
            if user.quota is not None and used_bytes >= user.quota.limit_bytes:
                each = f" of this {user.quota.period}" if user.quota.period else ""
                self._spent[user.name] = f"has used up his quota{each}, {size(user.quota.limit_bytes)}"
            else:
                self._spent.pop(user.name, None)
        if self._spent != before:
            self._listener.bar(self._spent, clock.now_ms())
            self._advance()

    def _in_thread(self, work: Callable[[], T]) -> T | None:
        """Do it in a thread, and wait for it; None: it failed, and the log says why."""
        try:
            found: T = gevent.get_hub().threadpool.apply(work)
            return found
        except (sqlite3.Error, OSError, KcpgError) as error:
            text = f"cannot write the account of the users, will try again: {error}"
            self._log.say(logging.WARNING, text, "account", "", time.monotonic())
            return None

    def _flush_on(self) -> None:
        while not self._ending.wait(FLUSH_S):
            self.flush()
