"""The next node's address out of a DNS TXT record (`destination_dnstxt`).

To the dialer it is a name like any other: `TxtPeer.resolve` takes the place of `TunnelSockets.resolve` in the
leg's `Env`, and the addresses bring their own ports. The dialer asks for it whenever it looks for its peer,
at start and after silence. The record is kept as fresh as its TTL says besides, so that the newest is known
by then. What was good once stays until something better comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import gevent
import gevent.event

from kcpg.core.env import Resolved, ResolveFailed
from kcpg.net import Notice, dnstxt, title
from kcpg.net import addr as addresses
from kcpg.net.clock import now_ms
from kcpg.net.dnstxt import NoRecords, Records
from kcpg.net.tunnelsockets import NAME_MAX_AGE_MS, TunnelSockets

# A TTL below or above is taken for these: name servers should not suffer from a 0, nor we from a week.
MIN_TTL_S = 30
MAX_TTL_S = 3600
# How soon a failed refresh is tried again while nobody is waiting for it.
RETRY_S = 60
# Nor asked again sooner than this while somebody is: the dialer's first questions follow each other quickly.
RETRY_WANTED_MS = 1_000
MAX_PLACES = 64  # of one name; beyond, the rest is not used
MAX_WAITING = 64  # the dialer asks ten times while the slowest look-up runs

_TEXT = re.compile(
    r"\s*(?:\[\s*(?P<v6>[0-9A-Fa-f:.]+)\s*\]|(?P<v4>[0-9.]+))\s*:\s*(?P<port>[0-9]{1,5})\s*", re.ASCII
)

LookUp = Callable[[str], dnstxt.Records | dnstxt.NoRecords]


def parse(text: bytes) -> bytes | None:
    """The packed address of `192.0.2.1:3000` or `[2001:db8::1]:3000`, blanks around the parts allowed; else
    None."""
    match = _TEXT.fullmatch(text.decode("latin-1"))
    if match is None or not 1 <= int(match["port"]) <= 0xFFFF:
        return None
    try:
        packed = addresses.pack(match["v6"] or match["v4"], int(match["port"]))
    except ValueError:
        return None
    written = addresses.AF_INET if match["v4"] else addresses.AF_INET6
    return addresses.unmapped(packed) if addresses.family(packed) == written else None


class TxtPeer:
    """The addresses in the record of `name`: every string of every record that is one, sorted.

    `changed(text)` is told of each new content, `report` of trouble that leaves the old one in place; that
    there is none at all is the dialer's to report, which hears the reason.
    """

    def __init__(
        self, name: str, ports: TunnelSockets, *, changed: Callable[[str], None],
        report: Callable[[Notice], None], look_up: LookUp = dnstxt.look_up,
    ) -> None:  # fmt: skip
        self.name = name
        self.places: list[bytes] = []  # packed addresses; empty until a look-up succeeded
        self._ports = ports
        self._changed = changed
        self._report = report
        self._look_up = look_up
        self._asked_ms: int | None = None
        self._failure = ""
        self._wait_s: float = RETRY_S
        self._waiting: list[Resolved] = []
        self._wanted = gevent.event.Event()
        self._job: gevent.Greenlet | None = None

    def start(self) -> None:
        """Look the record up, and from then on in the rhythm of its TTL."""
        self._job = gevent.spawn(self._run)

    def stop(self) -> None:
        """Look no more. Idempotent."""
        job, self._job = self._job, None
        if job is not None:
            job.kill(block=False)

    def resolve(self, _host: str, _port: int, answer: Resolved) -> None:
        """What is known is answered at once, and looked up anew for the next time."""
        since_ms = None if self._asked_ms is None else now_ms() - self._asked_ms
        if since_ms is None or since_ms >= (NAME_MAX_AGE_MS if self.places else RETRY_WANTED_MS):
            self._wanted.set()
            if not self.places and len(self._waiting) < MAX_WAITING:
                self._waiting.append(answer)
                return
        self._hand(answer)

    def _run(self) -> None:
        while True:
            self._take(self._look_up(self.name))
            self._asked_ms = now_ms()
            waiting, self._waiting = self._waiting, []
            for answer in waiting:
                self._hand(answer)
            self._wanted.clear()  # whoever wanted something has it
            self._wanted.wait(self._wait_s)

    def _hand(self, answer: Resolved) -> None:
        known = self.places or ResolveFailed(self._failure or "it is being looked up")
        self._ports.hand(title(self.name), known, answer)

    def _take(self, found: Records | NoRecords) -> None:
        self._wait_s = RETRY_S
        if isinstance(found, NoRecords):
            self._failed(found.text)
            return
        read = {text: parse(text) for text in found.texts}
        places = sorted({place for place in read.values() if place is not None})[:MAX_PLACES]
        bad = ", ".join(f"'{_shown(text)}'" for text, place in read.items() if place is None)
        if not places:
            self._failed(f"{bad} is not IPv4:port or [IPv6]:port")
            return
        self._wait_s = min(max(found.ttl_s, MIN_TTL_S), MAX_TTL_S)
        if bad:
            self._tell(f"{bad} is not IPv4:port or [IPv6]:port, and not used")
        if places != self.places:
            self.places = places
            self._changed(f"{title(self.name)}: {self._text()}")

    def _failed(self, reason: str) -> None:
        self._failure = reason
        if self.places:
            self._tell(f"{reason}; going on with {self._text()}")

    def _tell(self, text: str) -> None:
        self._report(Notice("dns_txt", f"{title(self.name)}: {text}"))

    def _text(self) -> str:
        return ", ".join(addresses.text(place) for place in self.places)


def _shown(text: bytes) -> str:
    """As much of a stranger's text as a log line should hold."""
    return text[:64].decode("ascii", "backslashreplace").encode("unicode_escape").decode("ascii")
