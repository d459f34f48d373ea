"""Other people's tunnels, each configured for speed in the way its own documentation says.

Windows of 2,048 segments: the product of 100 Mbit/s and 200 ms, and what their authors advise at most.
"""

from __future__ import annotations

import json
import shlex

from harness.bench.systems.base import (
    BULK,
    FAR,
    IDLE,
    LATENCY,
    LOSSY,
    NEAR,
    SHORT,
    Part,
    Settings,
    System,
    Wiring,
    found,
    not_there,
    private,
)

WINDOW_SEGMENTS = 2048
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
        self.groups = frozenset({LOSSY}) if data else frozenset({BULK, LATENCY, SHORT, IDLE, LOSSY})
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
    """cnbatch's kcptube (C++). Its plain client of some versions needs mux to complete a handshake."""

    name = "kcptube"
    about = "kcptube, AES-GCM, regular3, mux"
    peer = True

    def missing(self, settings: Settings) -> str:
        return not_there(settings, "KCPTUBE")

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        port = wiring.ports[0]
        shared = (
            "kcp=regular3\ninbound_bandwidth=10000M\noutbound_bandwidth=10000M\n"
            f"encryption_password={PASSWORD}\nencryption_algorithm=AES-GCM\n"
            f"kcp_sndwnd={WINDOW_SEGMENTS}\nkcp_rcvwnd={WINDOW_SEGMENTS}\n"
        )
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
    """hexian000's kcptun-libev (C): XChaCha20-Poly1305, a conversation for each connection."""

    name = "kcptun-libev"
    about = "kcptun-libev, xchacha20poly1305"
    protocols = TCP_ONLY
    peer = True

    def missing(self, settings: Settings) -> str:
        return not_there(settings, "KCPTUN_LIBEV")

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        port = wiring.ports[0]
        window = {"sndwnd": WINDOW_SEGMENTS, "rcvwnd": WINDOW_SEGMENTS}
        shared = {"method": "xchacha20poly1305_ietf", "password": PASSWORD, "kcp": window}
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
    """Any other tunnel: two command lines with holes for its addresses."""

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
    """`mine -l {server} -t {target}` as words."""
    return tuple(word.format(**holes) for word in shlex.split(command))


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
