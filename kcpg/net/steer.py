"""Which of several processes gets a datagram or a connection: a classic BPF program on the shared port.

The sockets of one port that were opened with SO_REUSEPORT form a group, numbered in the order of their
binding; a program attached to it (SO_ATTACH_REUSEPORT_CBPF, socket(7)) gives the number of the one that takes
a packet. Ours goes by the sender's address and port, and knows exceptions: senders whose link is with
another process. It cannot go by the CID, which is masked. Needs no privilege. Opcodes and offsets:
Documentation/networking/filter.rst and include/uapi/linux/filter.h.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping

from kcpg.core.stun import COOKIE, COOKIE_AT
from kcpg.net import addr as addresses

# Per port. A program may have 4,096 instructions; these take at most 2,700. The one used longest ago gives
# way: what comes from there is then handed over by the process that gets it.
MAX_EXCEPTIONS = 1024

_SO_ATTACH_REUSEPORT_CBPF = 51
_LEAF = 16  # exceptions compared one after another at the end of a branch
_WORD = 0xFFFFFFFF
_NETWORK = 0xFFF00000  # SKF_NET_OFF: offsets from the IP header instead of from the payload
_MIX_ADDRESS, _MIX_PORT = 0x9E3779B1, 0x85EBCA6B  # odd, with bits everywhere: multiplying spreads every bit

_LD_WORD, _LD_HALF, _LD_BYTE, _LD_HALF_AT_X = 0x20, 0x28, 0x30, 0x48
_ST, _LDX_MEM, _TAX = 0x02, 0x61, 0x07
_ADD, _MUL, _AND, _LSH, _RSH, _MOD, _XOR = 0x04, 0x24, 0x54, 0x64, 0x74, 0x94, 0xA4
_ADD_X, _XOR_X = 0x0C, 0xAC
_JA, _JEQ, _JGE = 0x05, 0x15, 0x35
_RET, _RET_A = 0x06, 0x16

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

_DEFAULT: Instruction = (_JA, 0, 0, _WORD)  # placeholder for a jump to where the default is computed


def open_shared(open: Callable[[bool], _socket.socket], count: int) -> list[_socket.socket]:
    """`count` sockets of one port, in the order in which a program numbers them. `open(shared)` opens one.

    The first is opened without sharing, so that a port which another program has is found taken, as ever.
    """
    first = open(False)
    socks = [first]
    try:
        if first.family == _socket.AF_UNIX:  # has no groups; whoever accepts first has the connection
            socks += [_socket.socket(fileno=os.dup(first.fileno())) for _ in range(count - 1)]
            return socks
        first.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        socks += [open(True) for _ in range(count - 1)]
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    return socks


def key(addr: bytes, seed: int) -> int:
    """What the program computes from a sender's packed address: 32 bits. `seed`: 32 secret bits."""
    bare = addresses.unmapped(addr)
    ip = bare[4:8] if addresses.family(bare) == addresses.AF_INET else bare[20:24]
    mixed = (int.from_bytes(ip, "big") ^ seed) * _MIX_ADDRESS & _WORD
    mixed = (mixed + addresses.port(bare)) * _MIX_PORT & _WORD
    return mixed ^ (mixed >> 15)


def program(
    count: int, seed: int, *, stun: bool, exceptions: Mapping[int, int], stand_ins: Mapping[int, int]
) -> list[Instruction]:
    """For `count` processes. `stun`: STUN's answers go to number 0, who asks. `exceptions`: key → process.
    `stand_ins`: a process that is away → the one that takes its place."""
    code: list[Instruction] = []
    if stun:
        cookie = int.from_bytes(COOKIE, "big")
        code += [(_LD_WORD, 0, 0, COOKIE_AT), (_JEQ, 0, 1, cookie), (_RET, 0, 0, stand_ins.get(0, 0))]
    code += _load_key(seed)
    code += _search(sorted((key, stand_ins.get(worker, worker)) for key, worker in exceptions.items()))
    default = len(code)
    code += [(_MOD, 0, 0, count)]
    for absent, stand_in in stand_ins.items():
        code += [(_JEQ, 0, 1, absent), (_RET, 0, 0, stand_in)]
    code += [(_RET_A, 0, 0, 0)]
    return [(_JA, 0, 0, default - at - 1) if one is _DEFAULT else one for at, one in enumerate(code)]


def _load_key(seed: int) -> list[Instruction]:
    """`key` of the packet's sender, into A. The port stands behind an IPv4 header of any length, or behind
    the 40 bytes of an IPv6 header."""
    mix_address = [(_XOR, 0, 0, seed), (_MUL, 0, 0, _MIX_ADDRESS), (_ST, 0, 0, 0)]
    mix_port = [
        (_LDX_MEM, 0, 0, 0), (_ADD_X, 0, 0, 0), (_MUL, 0, 0, _MIX_PORT), (_TAX, 0, 0, 0), (_RSH, 0, 0, 15),
        (_XOR_X, 0, 0, 0),
    ]  # fmt: skip
    v4 = [
        (_LD_WORD, 0, 0, _NETWORK + 12), *mix_address, (_LD_BYTE, 0, 0, _NETWORK), (_AND, 0, 0, 15),
        (_LSH, 0, 0, 2), (_TAX, 0, 0, 0), (_LD_HALF_AT_X, 0, 0, _NETWORK),
    ]  # fmt: skip
    v6 = [(_LD_WORD, 0, 0, _NETWORK + 20), *mix_address, (_LD_HALF, 0, 0, _NETWORK + 40)]
    head = [(_LD_BYTE, 0, 0, _NETWORK), (_RSH, 0, 0, 4), (_JEQ, 0, len(v4) + 1, 4)]
    return [*head, *v4, (_JA, 0, 0, len(v6)), *v6, *mix_port]


def _search(pairs: list[tuple[int, int]]) -> list[Instruction]:
    """Return the process of the key in A, or go to the default. Bisects: a conditional jump reaches 255
    instructions, so the far half is jumped to without a condition."""
    if len(pairs) <= _LEAF:
        found = [one for key, worker in pairs for one in ((_JEQ, 0, 1, key), (_RET, 0, 0, worker))]
        return [*found, _DEFAULT]
    middle = len(pairs) // 2
    low, high = _search(pairs[:middle]), _search(pairs[middle:])
    return [(_JGE, 0, 1, pairs[middle][0]), (_JA, 0, 0, len(low)), *low, *high]


class Steering:
    """The program of one port. Raises OSError from `attach` where the system has no such thing: then the
    kernel spreads by a hash of its own, and hand-overs do the rest."""

    def __init__(self, sock: _socket.socket, count: int, seed: int, stun: bool) -> None:
        """`sock`: any of the group. `stun`: see `program`."""
        self._sock = sock
        self._count = count
        self._seed = seed
        self._stun = stun
        self._exceptions: OrderedDict[int, int] = OrderedDict()
        self._limit = MAX_EXCEPTIONS
        self.stale = True  # `attach` is needed: something has changed

    def assign(self, addr: bytes, worker: int) -> None:
        """What this sender sends is for `worker`, from the next `attach` on."""
        number = key(addr, self._seed)
        if self._exceptions.get(number) != worker:
            self._exceptions[number] = worker
            self.stale = True
        self._exceptions.move_to_end(number)
        if len(self._exceptions) > self._limit:
            self._exceptions.popitem(last=False)

    def attach(self, stand_ins: Mapping[int, int]) -> None:
        """Let the kernel work by what is known now. `stand_ins`: see `program`."""
        while True:
            code = program(
                self._count, self._seed, stun=self._stun, exceptions=self._exceptions, stand_ins=stand_ins
            )
            try:
                _attach(self._sock, code)
            except OSError as error:
                # net.core.optmem_max bounds a program; 20 kB, the smallest in use, is room for about 900.
                if error.errno != errno.ENOMEM or not self._exceptions:
                    raise
                self._limit = len(self._exceptions) // 2
                while len(self._exceptions) > self._limit:
                    self._exceptions.popitem(last=False)
                continue
            self.stale = False
            return


def _attach(sock: _socket.socket, code: list[Instruction]) -> None:
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
    sock.setsockopt(
        _socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(code), ctypes.addressof(text))
    )
