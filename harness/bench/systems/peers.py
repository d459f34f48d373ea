"""Third-party tunnels, each with the fastest settings here that its documentation offers."""

from __future__ import annotations

import json
import shlex

from harness.bench.systems.base import (
    FAR,
    GROUPS,
    LOSSY,
    NEAR,
    UDP,
    Part,
    Settings,
    System,
    Wiring,
    found,
    not_there,
    private,
)

# The product of 100 Mbit/s and 200 ms, and the authors' maximum; smaller windows are slower over lossy lines,
# and as fast elsewhere.
WINDOW_SEGMENTS = 2048
# From kcptun-libev's sample configuration: with the kernel's default buffers it loses most of a window and is
# slower by an order of magnitude. kcptun requests 4 MB by itself; kcptube has no key for them.
UDP_BUFFER_BYTES = 1 << 20
PASSWORD = "a password of the bench"

TCP_ONLY = frozenset({"tcp"})


class Kcptun(System):
    """xtaci's kcptun (Go), as Debian packages it: AES, `fast3`, no compression, no FEC."""

    about = "kcptun, aes, fast3"
    protocols = TCP_ONLY
    peer = True

    def __init__(self, name: str = "kcptun", data: int = 0, parity: int = 0) -> None:
        self.name = name
        self.about += f", FEC {data}/{parity}" if data else ", no FEC"
        self.groups = frozenset({LOSSY}) if data else frozenset(GROUPS) - {UDP}
        self._fec = ("--datashard", str(data), "--parityshard", str(parity))

    def missing(self, settings: Settings) -> str:
        return not_there(settings, "KCPTUN_CLIENT", "kcptun-client") or not_there(
            settings, "KCPTUN_SERVER", "kcptun-server"
        )

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        window = str(WINDOW_SEGMENTS)
        shared = ("--key", PASSWORD, "--crypt", "aes", "--mode", "fast3", "--nocomp", "--quiet")
        sizes = ("--sndwnd", window, "--rcvwnd", window, *self._fec)
        port = wiring.ports[0]
        entry, target = _text(wiring.entry), _text(wiring.target)
        server = found(settings, "KCPTUN_SERVER", "kcptun-server")
        client = found(settings, "KCPTUN_CLIENT", "kcptun-client")
        listen, dial = f"{wiring.server}:{port}", f"{wiring.server}:{port}"
        return [
            Part(
                "client",
                NEAR,
                (client, "-l", entry, "-r", dial, *shared, *sizes),
                sockets=(("tcp", wiring.entry[1]),),
            ),
            Part(
                "server", FAR, (server, "-l", listen, "-t", target, *shared, *sizes), sockets=(("udp", port),)
            ),
        ]


class Kcptube(System):
    """cnbatch's kcptube (C++). Its plain client of some versions needs mux to complete a handshake.

    `regular3` with the windows that this mode has by itself, 1,024 segments. With 2,048 or 512 it carries
    half to three quarters of that over lossy lines, and no more on loopback; `fast1`, `regular1`, three
    tunnels for mux and 8,192 segments were no faster either (version 0.7.7). `blast=1`, which its
    documentation advises for much traffic, made no difference that could be told from chance, on loopback and
    over two lossy lines. Lines that state the bandwidth are left out: from them and the round trip it
    computes other windows after five seconds, and traffic falls to nothing for a while.
    """

    name = "kcptube"
    about = "kcptube, AES-GCM, regular3, mux"
    peer = True

    def missing(self, settings: Settings) -> str:
        return not_there(settings, "KCPTUBE")

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        port = wiring.ports[0]
        shared = f"kcp=regular3\nencryption_password={PASSWORD}\nencryption_algorithm=AES-GCM\n"
        client = (
            f"mode=client\nlisten_on={wiring.entry[0]}\nlisten_port={wiring.entry[1]}\n"
            f"destination_address={wiring.server}\ndestination_port={port}\nmux_tunnels=1\n{shared}"
        )
        server = (
            f"mode=server\nlisten_on={wiring.server}\nlisten_port={port}\n"
            f"destination_address={wiring.target[0]}\ndestination_port={wiring.target[1]}\n{shared}"
        )
        program = found(settings, "KCPTUBE")
        near = private(wiring.directory / "kcptube-client.conf", client)
        far = private(wiring.directory / "kcptube-server.conf", server)
        return [
            Part("client", NEAR, (program, near), sockets=(("tcp", wiring.entry[1]),)),
            Part("server", FAR, (program, far), sockets=(("udp", port),)),
        ]


class KcptunLibev(System):
    """hexian000's kcptun-libev (C): XChaCha20-Poly1305, a conversation for each connection.

    KCP's own fast mode (nodelay, 10 ms, two acknowledgements, no congestion window), and acknowledgements
    at once, which its documentation keeps "for benchmarking". As it comes (100 ms, acknowledgements now and
    then, no fast resend) it reaches a quarter to a half of that in bulk, on loopback and on lossy lines, and
    a fifth of the short connections.
    """

    name = "kcptun-libev"
    about = "kcptun-libev, xchacha20poly1305, fast"
    protocols = TCP_ONLY
    peer = True

    def missing(self, settings: Settings) -> str:
        return not_there(settings, "KCPTUN_LIBEV")

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        port = wiring.ports[0]
        fast = {"nodelay": 1, "interval": 10, "resend": 2, "nc": 1, "flush": 2}
        kcp = {"sndwnd": WINDOW_SEGMENTS, "rcvwnd": WINDOW_SEGMENTS, **fast}
        buffers = {"sndbuf": UDP_BUFFER_BYTES, "rcvbuf": UDP_BUFFER_BYTES}
        shared = {"method": "xchacha20poly1305_ietf", "password": PASSWORD, "kcp": kcp, "udp": buffers}
        far_end = f"{wiring.server}:{port}"
        client = {"listen": _text(wiring.entry), "kcp_connect": far_end, **shared}
        server = {"kcp_bind": far_end, "connect": _text(wiring.target), **shared}
        program = found(settings, "KCPTUN_LIBEV")
        near = private(wiring.directory / "libev-client.json", json.dumps(client))
        far = private(wiring.directory / "libev-server.json", json.dumps(server))
        return [
            Part("client", NEAR, (program, "-c", near), sockets=(("tcp", wiring.entry[1]),)),
            Part("server", FAR, (program, "-c", far), sockets=(("udp", port),)),
        ]


class Named(System):
    """Any other tunnel: two command lines with placeholders for its addresses."""

    name = "other"
    about = "the commands OTHER_CLIENT and OTHER_SERVER"
    peer = True

    def missing(self, settings: Settings) -> str:
        given = settings.executables
        if not given.get("OTHER_CLIENT") or not given.get("OTHER_SERVER"):
            return "OTHER_CLIENT=command OTHER_SERVER=command"
        return ""

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        port = wiring.ports[0]
        holes = {
            "entry": _text(wiring.entry),
            "server": f"{wiring.server}:{port}",
            "target": _text(wiring.target),
        }
        near, far = (settings.executables[option] for option in ("OTHER_CLIENT", "OTHER_SERVER"))
        return [
            Part("client", NEAR, _filled(near, holes), sockets=(("tcp", wiring.entry[1]),)),
            Part("server", FAR, _filled(far, holes), sockets=(("udp", port),)),
        ]


def _filled(command: str, holes: dict[str, str]) -> tuple[str, ...]:
    """A command line such as `mine -l {server} -t {target}`, as words."""
    return tuple(word.format(**holes) for word in shlex.split(command))


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
