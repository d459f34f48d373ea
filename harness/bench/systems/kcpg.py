"""kcpg itself: client and server with each cipher, with a relay, and with its other dialects."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.bench.systems.base import (
    BULK,
    FAR,
    GROUPS,
    NEAR,
    Address,
    Part,
    Settings,
    System,
    Wiring,
    private,
)
from harness.bench.systems.peers import PASSWORD, TCP_ONLY, WINDOW_SEGMENTS, Kcptun
from harness.process import ROOT

WINDOWS = {"kcp_sndwnd": str(WINDOW_SEGMENTS), "kcp_rcvwnd": str(WINDOW_SEGMENTS)}
READY = "^kcpg: ready"

# How kcpg reports a protocol that it lacks.
UNAVAILABLE = re.compile(r"(the protocol of \w+ is not available[^\n]*)")


class Kcpg(System):
    """kcpg with one cipher and default settings."""

    def __init__(
        self,
        name: str = "kcpg",
        algorithm: str = "AES-GCM",
        *,
        relays: int = 0,
        groups: Sequence[str] = GROUPS,
        options: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        root: Path = ROOT,
    ) -> None:
        """`environ`: more environment variables for its nodes; `root`: the sources to run."""
        self.name = name
        self.groups = frozenset(groups)
        relayed = "client, relay, server" if relays else "client, server"
        self._environ = dict(environ or {})
        given = {**(options or {}), **self._environ}
        self.about = f"{relayed}; {algorithm}" + "".join(f", {key}={value}" for key, value in given.items())
        self._algorithm, self._relays = algorithm, relays
        self._options = {"kcp": "auto", **(options or {})}
        self._root = root

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        # Only PYTHONPATH selects the sources, not the installed package or the working directory.
        own = {"KCPG_STATE_DIR": str(wiring.directory / "state"), "PYTHONPATH": str(self._root)}
        environ = {**self._environ, **own}
        parts = []
        for name, text in self._texts(wiring, {**self._options, **settings.options}).items():
            config = private(wiring.directory / f"{name}.conf", text)
            # Nothing is pending when a measurement is over.
            words = (sys.executable, "-P", "-m", "kcpg", "--drain", "0", config)
            parts.append(Part(name, NEAR if name == "client" else FAR, words, READY, environ=environ))
        return parts

    def unsupported(self, words: str) -> str:
        match = UNAVAILABLE.search(words)
        return match[1] if match else ""

    def _texts(self, wiring: Wiring, options: Mapping[str, str]) -> dict[str, str]:
        """Configurations from the client to the server. A relay is on the far side, beside the server."""
        shared = {"encryption_algorithm": self._algorithm, **options}
        if self._algorithm != "none":
            shared["encryption_password"] = PASSWORD
        ports = wiring.ports[: self._relays + 1]
        hosts = [wiring.server, *["127.0.0.1"] * self._relays]
        dial = [_dials((host, port)) | shared for host, port in zip(hosts, ports, strict=True)]
        listen = [
            {"listen_on": host, "listen_port": str(port)} | shared
            for host, port in zip(hosts, ports, strict=True)
        ]
        entry = {"mode": "client", "listen_on": wiring.entry[0], "listen_port": str(wiring.entry[1])}
        texts = {"client": _lines(entry | dial[0])}
        for number in range(self._relays):
            name = "relay" if self._relays == 1 else f"relay{number + 1}"
            inner, outer = _lines(listen[number]), _lines(dial[number + 1])
            texts[name] = f"mode=relay\n[listener]\n{inner}[forwarder]\n{outer}"
        texts["server"] = _lines({"mode": "server"} | listen[-1] | _dials(wiring.target))
        return texts


def _dials(address: Address) -> dict[str, str]:
    return {"destination_address": address[0], "destination_port": str(address[1])}


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())


class AsKcptun(Kcpg):
    """kcpg with kcptun's wire, beside `Kcptun`: its cipher, windows and timing."""

    protocols = TCP_ONLY

    def __init__(self, name: str) -> None:
        timing = {"kcp": "manual", "kcp_nodelay": "1", "kcp_interval": "10", "kcp_resend": "2", "kcp_nc": "1"}
        options = {"dialect": "kcptun", "nocomp": "1", **timing, **WINDOWS}
        super().__init__(name, "aes", options=options, groups=[BULK])


class HalfKcptun(AsKcptun):
    """One of both ends is kcpg, the other kcptun."""

    def __init__(self, name: str, own: str) -> None:
        """`own`: the part that kcpg is."""
        super().__init__(name)
        self.about = f"{own} kcpg, the other kcptun; aes, fast3, no FEC"
        self._own, self._other = own, Kcptun()

    def missing(self, settings: Settings) -> str:
        return self._other.missing(settings)

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        both = super().parts(wiring, settings), self._other.parts(wiring, settings)
        return [own if own.name == self._own else other for own, other in zip(*both, strict=True)]


SYSTEMS = (
    Kcpg(),
    Kcpg("kcpg-ocb", "AES-OCB", groups=[BULK]),
    Kcpg("kcpg-chacha20", "chacha20", groups=[BULK]),
    Kcpg("kcpg-none", "none", groups=[BULK]),
    Kcpg("kcpg-nogso", groups=[BULK], environ={"KCPG_OFFLOAD": "off"}),
    Kcpg("kcpg-relay", relays=1),
    Kcpg("kcpg-kcptube", options={"dialect": "kcptube", "kcp": "regular3", **WINDOWS}, groups=[BULK]),
    AsKcptun("kcpg-kcptun"),
    HalfKcptun("kcpg-to-kcptun", "client"),
    HalfKcptun("kcptun-to-kcpg", "server"),
)
