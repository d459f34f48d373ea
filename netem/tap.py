"""TAP interfaces: Ethernet frames of a namespace as reads and writes of a file descriptor."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from netem.namespace import entered

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SIOCGIFMTU = 0x8921  # linux/sockios.h
_NAME_BYTES = 16  # IFNAMSIZ

ETHERNET_BYTES = 18  # Ethernet header with one VLAN tag: a frame's bytes beyond the MTU


def attach(namespace: str, device: str) -> tuple[int, int]:
    """Take the far end of a TAP interface that exists in the namespace; returns (descriptor, frame size).

    Each read and each write is one frame of at most that size; the descriptor does not block. Without a
    virtio header, the kernel segments and checksums the frames, so that they are what a wire would carry.
    Raises OSError.
    """
    with entered(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            request = struct.pack("16sH22x", device.encode(), _IFF_TAP | _IFF_NO_PI)
            fcntl.ioctl(descriptor, _TUNSETIFF, request)
            return descriptor, mtu(device) + ETHERNET_BYTES
        except OSError:
            os.close(descriptor)
            raise


def mtu(device: str) -> int:
    """The interface's MTU in bytes, in the namespace where this thread is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack(f"{_NAME_BYTES}si12x", device.encode(), 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, request)
    return int(struct.unpack_from("i", answer, _NAME_BYTES)[0])
