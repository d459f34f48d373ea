"""How two nodes meet: one round trip that gives both the keys of a link's first epoch.

Sans-IO: whole datagrams come out, `(clear header, body)` as the wire hands out strangers go in. Nothing a
peer sends raises; what is dropped is counted by reason in `drops`. docs/protocol.md, "Handshake", is the
authority.

The dialer: `Initiator.init()` gives an INIT for each try, on any path; `receive()` gives `Accepted`,
`Refused`, `Retry` (send another `init()` at once) or None. The listener: `Responder.receive()` gives an
`InitRequest` to be decided with `accept()` or `refuse()`, a `Reply` to be sent back as it is, or None.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from kcpg.core.native.handshake import noise
from kcpg.core.native.handshake.admission import FAILURES_BURST, FAILURES_PER_S, Cookies, SaltSet, Sources
from kcpg.core.native.handshake.envelope import (
    INIT_MIN_BYTES,
    NO_COOKIE,
    OVERHEAD_BYTES,
    PAD_SPREAD_BYTES,
    SALT_GROUPS,
    Entropy,
    Envelope,
    Init,
    Resp,
    RetryFields,
    draw_length,
    pack_init,
    pack_resp,
    pack_retry,
    read_init,
    read_reply,
)
from kcpg.core.native.handshake.keys import EpochKeys, RootKeys, expand
from kcpg.core.native.handshake.outcomes import Accepted, Refused, Reply, Resume, Retry, RetryReason
from kcpg.core.native.handshake.pace import Pace
from kcpg.core.native.handshake.params import (
    Incarnation,
    LinkParams,
    Offer,
    Verdict,
    pack_answer,
    pack_offer,
    read_answer,
    read_offer,
    within,
)
from kcpg.core.seal.salted import SALT_BYTES

PROLOGUE = b"kcpg/1 link"
CLOCK_TOLERANCE_S = 60
MAX_ECHOES = 16  # INITs whose RETRY is still welcome: more tries than one round trip sees

MAX_RETRIES = 8  # RETRYs an Initiator follows. An honest listener needs one, or two across a cookie's period.

# How long a repeated INIT gets the same RESP; longer than any dialer keeps one Initiator.
ANSWER_MEMORY_MS = 120_000

MAX_ANSWERS = 4096


class Drops:
    """Counts what is dropped, by reason."""

    def __init__(self) -> None:
        self.drops: dict[str, int] = {}

    def _drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1


class Initiator(Drops):
    """The dialer's side of one handshake. Make a new one when tries have failed for half a minute.

    `client_cid`: non-zero, not in use by this leg. `clock_offset_s`: of an earlier Initiator that met this
    listener. `incarnation`: who the dialer is over its restarts; None: it does not tell.
    """

    def __init__(
        self,
        keys: RootKeys,
        params: LinkParams,
        client_cid: int,
        entropy: Entropy,
        resume: Resume | None = None,
        clock_offset_s: int = 0,
        incarnation: Incarnation | None = None,
    ) -> None:
        assert 0 < client_cid < 1 << 32
        super().__init__()
        self.params = params
        self.incarnation = incarnation
        self.client_cid = client_cid
        self.clock_offset_s = clock_offset_s  # the listener's clock minus ours, as far as known
        self._entropy = entropy
        self._out = Envelope(keys.handshake_c2s, keys.mask_c2s)
        self._in = Envelope(keys.handshake_s2c, keys.mask_s2c)
        pair = keys.pair
        self._noise = (
            noise.Initiator(keys.psk, _prologue(client_cid), entropy(32))
            if pair is None
            else noise.Initiator(
                keys.psk,
                _prologue(client_cid),
                entropy(32),
                static=pair.own,
                peer_static=pair.listener,
                shared=pair.shared,
            )
        )
        self._message = self._noise.write(pack_offer(self._offer(resume)))
        self._cookie = NO_COOKIE
        # The next INIT is to leave when a RETRY said, with its cookie: no other one is heeded meanwhile.
        self.is_told = False
        self._group = int.from_bytes(entropy(2), "big") % SALT_GROUPS  # of all salts: see Responder.group
        self._echoes: deque[bytes] = deque(maxlen=MAX_ECHOES)
        self._retries = 0

    def init(self, wall_s: int) -> bytes:
        """The next INIT datagram: always the same key agreement in a fresh envelope. `wall_s`: since 1970."""
        time_s = min(max(0, wall_s + self.clock_offset_s), (1 << 64) - 1)
        content = pack_init(Init(time_s, self.client_cid, self._cookie, self._message))
        length = draw_length(INIT_MIN_BYTES, INIT_MIN_BYTES + PAD_SPREAD_BYTES, self._entropy)
        datagram, salt = self._out.seal(0, content, length, self._entropy, self._group)
        self._echoes.append(salt)
        return datagram

    def receive(self, header: bytes, body: bytes, wall_s: int) -> Accepted | Refused | Retry | None:
        """Take a stranger's datagram that carries `client_cid`. None: not for us, counted in `drops`."""
        content = self._in.open(header, body)
        if content is None or int.from_bytes(header[:4], "big") != self.client_cid:
            self._drop("handshake_auth")
            return None
        reply = read_reply(content)
        if isinstance(reply, Resp):
            return self._finish(reply)
        if reply is None:
            self._drop("handshake_malformed")
            return None
        return self._follow(reply, wall_s)

    def _finish(self, reply: Resp) -> Accepted | Refused | None:
        opened = self._noise.read(reply.noise)
        if opened is None:
            self._drop("handshake_noise")
            return None
        payload, keys = opened
        answer = read_answer(payload)
        if answer is None:
            self._drop("handshake_malformed")
            return None
        server_cid, answered, verdict = answer
        if not verdict.accepted:
            return Refused(verdict)
        same = (answered.version, answered.algorithm) == (self.params.version, self.params.algorithm)
        if not server_cid or not same:
            self._drop("handshake_downgrade")
            return None
        params = within(self.params, answered)
        epoch = EpochKeys.derive(params.algorithm, keys.c2s, keys.s2c)
        return Accepted(epoch, self.client_cid, server_cid, params, verdict, keys.secret)

    def _follow(self, retry: RetryFields, wall_s: int) -> Retry | None:
        if retry.echo not in self._echoes:
            self._drop("handshake_echo")
            return None
        if self.is_told:
            self._drop("handshake_told")
            return None
        if self._retries >= MAX_RETRIES:
            self._drop("handshake_retries")
            return None
        self._retries += 1
        self._echoes.remove(retry.echo)  # one INIT, one RETRY
        self._cookie = retry.cookie
        self.clock_offset_s = retry.time_s - wall_s
        self.is_told = retry.wait_ms > 0
        return Retry(retry.reason, retry.time_s, retry.wait_ms)

    def _offer(self, resume: Resume | None) -> Offer:
        if resume is None:
            return Offer(self.params, incarnation=self.incarnation)
        proof = resume_proof(resume.session_secret, resume.server_cid, self._noise.public)
        return Offer(self.params, resume.server_cid, proof, self.incarnation)


class InitRequest:
    """A fresh, authentic request for a link. Decide it once, at once."""

    def __init__(
        self, responder: Responder, init: Init, offer: Offer, side: noise.Responder, length: int
    ) -> None:
        self.client_cid = init.client_cid
        self.params = offer.params  # as offered
        self.resume_cid = offer.resume_cid  # the listener's CID of the link to resume, None: a new link
        self.incarnation = offer.incarnation  # the dialer's; None: it does not tell
        self._responder = responder
        self._offer = offer
        self._noise = side
        self.message = init.noise  # the dialer's first one; the same in every INIT of an attempt
        self.static = side.peer_static  # the dialer's public key; empty where dialers have none
        self._length = length

    def proves(self, session_secret: bytes) -> bool:
        """Does the dialer hold this secret of the link that `resume_cid` names?"""
        if self.resume_cid is None:
            return False
        expected = resume_proof(session_secret, self.resume_cid, self._noise.peer)
        return hmac.compare_digest(expected, self._offer.proof)

    def accept(self, params: LinkParams, verdict: Verdict, server_cid: int) -> tuple[bytes, Accepted] | None:
        """(RESP datagram, the listener's half of the link). `params` as `negotiate` gave them, `server_cid`
        non-zero and not in use by this leg. None: the dialer's public key is one that agrees on nothing.
        """
        assert verdict.accepted and 0 < server_cid < 1 << 32 and params.algorithm == self.params.algorithm
        done = self._answer(params, verdict, server_cid)
        if done is None:
            return None
        datagram, keys = done
        epoch = EpochKeys.derive(params.algorithm, keys.c2s, keys.s2c)
        return datagram, Accepted(epoch, self.client_cid, server_cid, params, verdict, keys.secret)

    def refuse(self, params: LinkParams, verdict: Verdict) -> bytes | None:
        """The RESP datagram that says no, and why. Repeated INITs get the same answer."""
        assert not verdict.accepted
        done = self._answer(params, verdict, 0)
        return done[0] if done is not None else None

    def forget(self) -> None:
        """The link is gone: a repeated INIT must not be answered for it any more."""
        self._responder.forget(self.message)

    def _answer(self, params: LinkParams, verdict: Verdict, cid: int) -> tuple[bytes, noise.Keys] | None:
        private = self._responder.entropy(32)
        written = self._noise.write(pack_answer(cid, params, verdict), private)
        if written is None:
            self._responder.note("handshake_noise")
            return None
        content = pack_resp(Resp(written[0]))
        answer = _Answer(0, self.client_cid, content, self.static)
        return self._responder.remember(self.message, answer, self._length), written[1]


class _Answer(NamedTuple):
    """What repeated INITs get."""

    until_ms: int
    client_cid: int
    content: bytes  # of the RESP
    static: bytes  # the dialer's public key, or empty


class Responder(Drops):
    """The listener's side of all handshakes of a leg. `cookie_secret`: 32 bytes, drawn if not given.

    `pace`: how many handshakes are begun. `answer_wrong_clock` False: a dialer whose clock is wrong gets no
    answer, and neither does who has copied an INIT and sends it later. `admits(public key, wall_s)`, where
    the keys have a pair: whether this dialer may have a link; any other gets no answer.
    """

    def __init__(
        self,
        keys: RootKeys,
        entropy: Entropy,
        max_salts: int | None = None,
        cookie_secret: bytes | None = None,
        answer_wrong_clock: bool = True,
        admits: Callable[[bytes, int], bool] | None = None,
    ) -> None:
        super().__init__()
        self.entropy = entropy
        self._answer_wrong_clock = answer_wrong_clock
        self._admits = admits
        self._psk = keys.psk
        self._pair = keys.pair
        self._in = Envelope(keys.handshake_c2s, keys.mask_c2s)
        self._out = Envelope(keys.handshake_s2c, keys.mask_s2c)
        self._salts = SaltSet() if max_salts is None else SaltSet(max_salts)
        self._cookies = Cookies(entropy(32) if cookie_secret is None else cookie_secret)
        self._sources = Sources()
        self._proven = Sources()  # those that showed to receive at their address: nobody takes their ration
        self._failures = Sources(rate_per_s=FAILURES_PER_S, burst=FAILURES_BURST)
        self.pace = Pace()
        self._answers: dict[bytes, _Answer] = {}  # by noise message 1
        self.refused = b""  # the public key of who sent the last datagram, if he may have no link
        self._now_ms = 0
        self._wall_s = 0

    def receive(
        self,
        header: bytes,
        body: bytes,
        source: bytes,
        source_key: bytes,
        wall_s: int,
        now_ms: int,
        load: bool = False,
    ) -> InitRequest | Reply | None:
        """Take a stranger's datagram.

        `source`: the whole address it came from (cookies are bound to it); `source_key`: its /32 or /64 (the
        rate is limited by it, for who has shown a cookie together with who he says he is). `load`: ask
        everybody for a cookie before any key agreement. None: no answer, counted.
        """
        self._now_ms, self._wall_s, self.refused = now_ms, wall_s, b""
        salt = body[:SALT_BYTES]
        if header[:4] != bytes(4):
            self._drop("handshake_auth")
            return None
        if salt in self._salts:
            self._drop("handshake_replay")
            return None
        if self._failures.spent(source_key, now_ms):
            self._drop("handshake_penalty")
            return None
        init = self._open(header, body)
        if init is None:
            self._failures.take(source_key, now_ms)
            return None
        full = self._salts.full(now_ms)
        if not full:
            self._salts.add(salt, now_ms)
        length = len(header) + len(body)
        proven = self._cookies.valid(init.cookie, source, init.client_cid, now_ms)
        if not proven and abs(init.time_s - wall_s) >= CLOCK_TOLERANCE_S:
            if not self._answer_wrong_clock:
                self._drop("handshake_clock")
                return None
            return self._retry(RetryReason.CLOCK, init, salt, source, wall_s, length)
        if (repeated := self._repeat(init, length)) is not None and (proven or not full):
            return repeated
        asks = not proven and (load or full or not self._sources.take(source_key, now_ms))
        if asks or not self.pace.admit(init.noise, now_ms):
            wait_ms = self.pace.promise(init.noise, now_ms)
            return self._retry(RetryReason.COOKIE, init, salt, source, wall_s, length, wait_ms)
        return self._request(init, length, source_key if proven else None)

    def group(self, body: bytes) -> int:
        """The same for all INITs of one attempt, and for their copies: where several processes answer, one of
        them takes care of it."""
        return self._in.group(body[:SALT_BYTES])

    def forget(self, message: bytes) -> None:
        """Drop what was answered to this noise message (see `InitRequest.forget`)."""
        self._answers.pop(message, None)

    def forget_dialer(self, static: bytes) -> None:
        """Drop what was answered to the dialer with this public key."""
        for message in [one for one, answer in self._answers.items() if answer.static == static]:
            del self._answers[message]

    def note(self, reason: str) -> None:
        """Count a drop that shows only while a request is decided."""
        self._drop(reason)

    def remember(self, message: bytes, answer: _Answer, length: int) -> bytes:
        """Keep an answer for repeated INITs, and give its datagram."""
        while self._answers:
            oldest = next(iter(self._answers))
            if len(self._answers) < MAX_ANSWERS and self._answers[oldest].until_ms > self._now_ms:
                break
            del self._answers[oldest]
        self._answers[message] = answer._replace(until_ms=self._now_ms + ANSWER_MEMORY_MS)
        return self._seal(answer.client_cid, answer.content, length)

    def _open(self, header: bytes, body: bytes) -> Init | None:
        if len(header) + len(body) < INIT_MIN_BYTES:
            self._drop("handshake_short")
            return None
        content = self._in.open(header, body)
        if content is None:
            self._drop("handshake_auth")
            return None
        init = read_init(content)
        if init is None:
            self._drop("handshake_malformed")
        return init

    def _repeat(self, init: Init, length: int) -> Reply | None:
        answer = self._answers.get(init.noise)
        if answer is None or answer.until_ms <= self._now_ms or answer.client_cid != init.client_cid:
            return None
        return Reply(self._seal(answer.client_cid, answer.content, length), "repeat")

    def _request(self, init: Init, length: int, ration: bytes | None) -> InitRequest | None:
        """`ration`: whose this is, beside the dialer's; None: it was taken from another one already."""
        prologue, pair = _prologue(init.client_cid), self._pair
        if pair is None:
            side = noise.Responder(self._psk, prologue)
        else:
            side = noise.Responder(self._psk, prologue, static=pair.own, shared=self._shared)
        payload = side.read(init.noise)
        if payload is None:
            self._drop("handshake_noise")
            return None
        if pair is not None and not self._is_admitted(side.peer_static):
            self._drop("handshake_user")
            self.refused = side.peer_static
            return None
        offer = read_offer(payload)
        if offer is None:
            self._drop("handshake_malformed")
            return None
        if ration is not None:
            dialer = offer.incarnation.dialer if offer.incarnation is not None else b""
            if not self._proven.take(ration + dialer, self._now_ms):
                self._drop("handshake_rate")
                return None
        return InitRequest(self, init, offer, side, length)

    def _is_admitted(self, static: bytes) -> bool:
        return self._admits is not None and self._admits(static, self._wall_s)

    def _shared(self, static: bytes) -> bytes | None:
        """What a dialer shares with us. Of one that gets no answer it is computed whoever that is, so that
        the time tells nobody which keys are known here.
        """
        assert self._pair is not None
        if not self._is_admitted(static):
            return self._pair.own.exchange(static)
        return self._pair.shared(static)

    def _retry(
        self,
        reason: RetryReason,
        init: Init,
        salt: bytes,
        source: bytes,
        wall_s: int,
        length: int,
        wait_ms: int = 0,
    ) -> Reply:
        cookie = self._cookies.make(source, init.client_cid, self._now_ms)
        content = pack_retry(RetryFields(reason, cookie, wall_s, salt, wait_ms))
        return Reply(self._seal(init.client_cid, content, length), "retry")

    def _seal(self, client_cid: int, content: bytes, most: int) -> bytes:
        """A datagram of any length between what the content needs and that of the INIT."""
        length = draw_length(len(content) + OVERHEAD_BYTES, most, self.entropy)
        return self._out.seal(client_cid, content, length, self.entropy)[0]


def resume_proof(session_secret: bytes, server_cid: int, ephemeral: bytes) -> bytes:
    """32 bytes that only a holder of the old link's secret makes, good for one handshake."""
    return expand(session_secret, b"resume" + server_cid.to_bytes(4, "big") + ephemeral)


def _prologue(client_cid: int) -> bytes:
    return PROLOGUE + client_cid.to_bytes(4, "big")
