"""Which of this machine's addresses a datagram was sent to, so that its answer leaves from there.

A socket that is bound to every address answers from the one the routing table prefers; whoever asked another
one, or a NAT in between, does not know the answer then. RFC 3542 section 6.2 (IPV6_PKTINFO), ip(7)
(IP_PKTINFO). On a dual-stack socket Linux speaks of IPv4 in the IPv6 form, v4-mapped.
"""

from __future__ import annotations

import _socket
import errno
import struct

from kcpg.net.addr import AF_INET, AF_INET6

IP_PKTINFO = 8  # include/uapi/linux/in.h
IPV6_RECVPKTINFO = 49  # include/uapi/linux/in6.h
IPV6_PKTINFO = 50
SOL_IP = 0
SOL_IPV6 = 41

# struct in_pktinfo: interface, local address, destination of the header (a broadcast, perhaps)
_INFO4 = struct.Struct("=i4s4s")
_INFO6 = struct.Struct("=16si")

CONTROL_BYTES = 96  # room for UDP_GRO or UDP_SEGMENT (24 bytes) and for IPV6_PKTINFO (40 bytes)

# What kernels say (which of them, depends on family and version) when this machine does not have the address
# any more: then any other will do.
GONE_ERRNOS = frozenset({errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH})

Item = tuple[int, int, bytes]  # level, type and contents of a control message


def enable(sock: _socket.socket) -> bool:
    """Have the kernel tell; False: this socket has one address, or the kernel cannot."""
    host = sock.getsockname()[0]
    try:
        if sock.family == AF_INET and host == "0.0.0.0":
            sock.setsockopt(SOL_IP, IP_PKTINFO, 1)
        elif sock.family == AF_INET6 and host == "::":
            sock.setsockopt(SOL_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            return False
    except OSError:
        return False
    return True


def asked(control: list[Item]) -> bytes:
    """The local address, 4 or 16 bytes; b"" if the kernel did not say."""
    for level, kind, data in control:
        if level == SOL_IPV6 and kind == IPV6_PKTINFO:
            return bytes(_INFO6.unpack(data)[0])
        if level == SOL_IP and kind == IP_PKTINFO:
            return bytes(_INFO4.unpack(data)[1])
    return b""


def item(local: bytes) -> Item:
    """What makes a datagram leave from this address, by whatever interface the route says."""
    if len(local) == 4:
        return SOL_IP, IP_PKTINFO, _INFO4.pack(0, local, bytes(4))
    return SOL_IPV6, IPV6_PKTINFO, _INFO6.pack(local, 0)
