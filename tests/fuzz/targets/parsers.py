"""Everything that reads bytes of others at once: none raises, and what they keep of a text is printable.

The first byte of an input chooses the reader.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from kcpg.app.config import load_text
from kcpg.app.config.keys import KEYS
from kcpg.core import stun
from kcpg.core.flow import ResetCode
from kcpg.core.kcptube import messages
from kcpg.core.native.handshake import envelope, params
from kcpg.core.native.link.open_message import read_open_message
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.pieces import Pieces
from kcpg.net import txtpeer
from tests.fuzz.draw import Draw

TRANSACTION = bytes(range(12))
MOST_BYTES = 1500  # The longest frame


def _opening(data: bytes) -> Any:
    found = read_open_message(data)
    assert found is None or read_open_message(found.encode()) == found
    return found


def _offer(data: bytes) -> Any:
    found = params.read_offer(data)
    assert found is None or params.read_offer(params.pack_offer(found)) == found
    return found


def _answer(data: bytes) -> Any:
    found = params.read_answer(data)
    assert found is None or params.read_answer(params.pack_answer(*found)) is not None
    return found


def _reason(data: bytes) -> Any:
    return messages.read_reason(b"\x21" + data, ResetCode.REFUSED)


def _settings(data: bytes) -> Any:
    return messages.read_settings(b"\x20" + data)


def _mux_target(data: bytes) -> Any:
    return messages.read_mux_target(b"\x18" + data)


def _code(data: bytes) -> Any:
    return messages.read_code(b"\x17" + data)


def _configuration(data: bytes) -> Any:
    loaded = load_text("fuzz.conf", data)
    assert all(str(problem).isprintable() for problem in loaded.problems)
    known = sorted(KEYS.keys() & {problem.key for problem in loaded.problems})
    return len(loaded.nodes), tuple(known[:1])


def _pieces(data: bytes) -> Any:
    draw, made, told = Draw(data), Pieces(MOST_BYTES), []
    while draw.more:
        whole = made.add(struct.pack("<IBB", draw.below(40), draw.below(5), draw.below(5)) + draw.blob(700))
        assert whole is None or len(whole) <= MOST_BYTES
        told.append(None if whole is None else bool(whole))
    return frozenset(told)


READERS: tuple[Callable[[bytes], Any], ...] = (
    frames.read_conv,
    frames.read_opaque,
    frames.read_reset,
    frames.read_close,
    frames.read_rekey,
    frames.read_losses,
    frames.read_text,
    _opening,
    _offer,
    _answer,
    envelope.read_init,
    envelope.read_reply,
    lambda data: stun.read(data, TRANSACTION),
    txtpeer.parse,
    _reason,
    _settings,
    _mux_target,
    _code,
    _configuration,
    _pieces,
    frames.read_goaway,
)


def run(data: bytes) -> object:
    """One reader, one input."""
    which = (data[0] if data else 0) % len(READERS)
    found = READERS[which](data[1:])
    for text in _texts(found):
        assert text.isprintable(), ascii(text)
    is_told = READERS[which] in (_configuration, _pieces)
    return which, found if is_told else type(found).__name__


def _texts(found: Any) -> Iterator[str]:
    """What a log or a status could show of it."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, tuple | frozenset):
        for one in found:
            yield from _texts(one)
    else:
        for name in ("open", "source", "target", "host", "text", "reason"):
            if (value := getattr(found, name, None)) is not None:
                yield from _texts(value)
