"""HTTP for the few who read a process's figures, at the addresses that the configuration names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gevent
import gevent.pool
from gevent import pywsgi

from kcpg.app.logs import process_log
from kcpg.errors import StartError
from kcpg.net.addr import strip_brackets

MAX_CONNECTIONS = 16  # Of one address at once: a page, a scraper and some that hang

READ_LIMIT_S = 10.0  # A client that does not finish its request for so long is cut off

IDLE_LIMIT_S = 150.0  # Scrapers come back within two minutes, by the same connection

Application = Callable[..., Iterable[bytes]]


class HttpServers:
    """The servers of one process, by key of the configuration and address."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, str], Any] = {}

    def serve(self, wanted: Mapping[tuple[str, str], Callable[[str], Application]]) -> None:
        """Have exactly these: key and address, and what makes the application of an address. Raises
        StartError for the first that cannot be opened; what is open goes on."""
        for gone in self._servers.keys() - wanted.keys():
            self._servers.pop(gone).stop(timeout=0)
        for (key, address), make in wanted.items():
            if (key, address) not in self._servers:
                self._servers[key, address] = _server(key, address, make(address))

    def close(self) -> None:
        """Close all."""
        self.serve({})


class _Handler(pywsgi.WSGIHandler):  # type: ignore[misc]  # gevent has no types
    """Waits for its client with limits, so that none keeps a connection for nothing."""

    def read_requestline(self) -> Any:
        """The first line of a request; empty if none comes."""
        line: Any = ""
        with gevent.Timeout(IDLE_LIMIT_S, False):
            line = super().read_requestline()
        return line

    def read_request(self, raw_requestline: Any) -> Any:
        """Read the rest; None if it does not come."""
        found: Any = None
        with gevent.Timeout(READ_LIMIT_S, False):
            found = super().read_request(raw_requestline)
        return found


def _server(key: str, address: str, application: Application) -> Any:
    host, _, port = address.rpartition(":")
    log = logging.getLogger(f"{process_log().name}.http")
    server = pywsgi.WSGIServer(
        (strip_brackets(host), int(port)),
        application,
        log=None,
        error_log=pywsgi.LoggingLogAdapter(log, logging.DEBUG),
        spawn=gevent.pool.Pool(MAX_CONNECTIONS),
        handler_class=_Handler,
    )
    try:
        server.start()
    except OSError as error:
        raise StartError(f"{key}={address}: {error.strerror}", "ss -tlpn shows who has this port") from error
    return server
