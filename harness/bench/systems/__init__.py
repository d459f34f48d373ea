"""All systems, in the order of the tables. A new one is a class here and a line below."""

from __future__ import annotations

from harness.bench.systems.base import System
from harness.bench.systems.direct import Bbr, Copying, Direct, Socat, UdpRelay
from harness.bench.systems.kcpg import SYSTEMS as KCPG
from harness.bench.systems.peers import Kcptube, Kcptun, KcptunLibev, Named

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        Direct(),
        Copying(),
        Bbr(),
        UdpRelay(),
        Socat(),
        *KCPG,
        Kcptun(),
        Kcptun("kcptun-fec", 10, 3),
        Kcptube(),
        KcptunLibev(),
        Named(),
    )
}

# Options that name executables, and the defaults.
EXECUTABLES = {
    "SOCAT": "socat",
    "KCPTUN_CLIENT": "kcptun-client",
    "KCPTUN_SERVER": "kcptun-server",
    "KCPTUBE": "",
    "KCPTUN_LIBEV": "",
    "OTHER_CLIENT": "",
    "OTHER_SERVER": "",
}
