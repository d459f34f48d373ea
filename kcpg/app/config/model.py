"""What a configuration file means, as typed, frozen values; the rest of the program reads nothing else of it.

These objects exist only once texts are parsed, defaults filled in and overrides applied. Names end in their
units: `_s` seconds, `_ms` milliseconds, `_bps` bits per second, `_bytes`, `_segments`. No value here prints a
secret.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

UDP_TIMEOUT_DEFAULT_S = 180  # The default of `udp_timeout` (documented for kcptube)

# The default of `dial_timeout`: as long as kcptube keeps trying one handshake.
DIAL_TIMEOUT_DEFAULT_S = 30

# Added to a relay's `udp_timeout`, so that it never clears a flow before its ends do (kcptube adds the same).
FORWARDING_GRACE_S = 5

IPV4_UDP_BYTES = 28  # IPv4 header without options (RFC 791) and UDP header (RFC 768)

IPV6_UDP_BYTES = 48  # IPv6 header (RFC 8200) and UDP header (RFC 768)


class Role(enum.Enum):
    """Which pair of legs a node has."""

    CLIENT = "client"
    RELAY = "relay"
    SERVER = "server"


class Severity(enum.Enum):
    """ERROR prevents the start, WARNING is likely a mistake, NOTE is for information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class LegKind(enum.Enum):
    """LOCAL: plain TCP and UDP sockets of applications. TUNNEL: sealed datagrams to another node."""

    LOCAL = "local"
    TUNNEL = "tunnel"


class Action(enum.Enum):
    """LISTEN: flows enter the node here. DIAL: they leave it here."""

    LISTEN = "listen"
    DIAL = "dial"


class Dialect(enum.Enum):
    """Wire protocol of a tunnel leg."""

    NATIVE = "native"
    KCPTUBE = "kcptube"
    KCPTUN = "kcptun"


class UdpDelivery(enum.Enum):
    """How the packets of a UDP flow arrive.

    UNORDERED: kcpg retransmits lost packets and delivers each as soon as it arrives. ORDERED: as in kcptube,
    a lost packet holds up the next. DATAGRAM: never retransmitted.
    """

    UNORDERED = "unordered"
    ORDERED = "ordered"
    DATAGRAM = "datagram"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a configuration; it never holds the value of a secret."""

    file: str  # Name of the file, as given
    line: int  # Line number from 1; 0 = the whole file
    key: str  # Key or `[section]` concerned; may be empty
    severity: Severity
    reason: str  # What is wrong, or how kcpg read an odd value
    hint: str = ""  # What to do about it; may be empty

    def __str__(self) -> str:
        return self._line(f"{self.severity.value}: ")

    @property
    def unrated(self) -> str:
        """The line without its severity, for a log, which has its own."""
        return self._line("")

    def _line(self, severity: str) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return printable(f"{where}: {severity}{key}{self.reason}{hint}")


def printable(text: str) -> str:
    """The text with control characters and invalid UTF-8 escaped: safe for terminals and logs."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One local port of a client that has its own target (a line of a `[custom_input…]` section)."""

    listen_address: str  # Literal to listen on; empty = every address of the machine
    listen_port: int
    # Address literal or name, without brackets; the last node of the chain connects to it.
    target_address: str
    target_port: int
    tcp: bool
    udp: bool


@dataclass(frozen=True, slots=True)
class AllowRule:
    """Targets that a server permits, or denies: the network or the name, on any of the ports."""

    # Network in CIDR form (a single address is a /32 or /128); empty for a rule about a name.
    network: str
    # Lower-case name, `*.example.org` for all names below it, `*` for every target; empty for a rule about a
    # network.
    name: str
    ports: tuple[tuple[int, int], ...]  # Inclusive port ranges; empty = every port
    denies: bool = False  # `!`: what it fits is refused, whatever another rule permits


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a user may send and receive."""

    limit_bytes: int
    period: str  # «day», «week» (from Monday), «month», all in UTC; empty: ever


@dataclass(frozen=True, slots=True)
class UserConfig:
    """A user of a listener: a section of the file that `users` names. A limit of 0 is none."""

    name: str
    public_key: bytes  # 32 bytes
    expires_s: int = 0  # Seconds since 1970; 0 = never
    disabled: bool = False
    outbound_bps: int = 0
    inbound_bps: int = 0
    max_links: int = 0
    max_flows: int = 0
    quota: Quota | None = None
    # Targets that he may choose, of those that the leg permits; None = all of them.
    allow_targets: tuple[AllowRule, ...] | None = None


@dataclass(frozen=True, slots=True)
class FecConfig:
    """Forward error correction of a tunnel leg."""

    auto: bool  # True: redundancy follows the measured loss, the two numbers below are 0
    data_shards: int
    parity_shards: int


@dataclass(frozen=True, slots=True)
class LegConfig:
    """One side of a node. Fields that another kind of leg needs keep their defaults."""

    kind: LegKind
    action: Action
    section: str = ""  # `listener` or `forwarder` in a relay, else empty: the name of this leg in messages

    # -- Where --
    # Literals (canonical form, no brackets, may end in %zone) or lower-case names. Listen: to bind,
    # empty = all interfaces; a name is resolved at start. Dial: each of them reaches the same peer.
    addresses: tuple[str, ...] = ()
    # Sorted, without duplicates. Listen: all of them. Dial: any of them. A local listener has one, or none
    # when only mappings are used; a local dialer has one, or none when only the client chooses targets.
    ports: tuple[int, ...] = ()
    socks_port: int = 0  # Local listener: port of the SOCKS5 and HTTP proxy; 0 = none
    # Local legs: UNIX socket to listen on, or to connect TCP flows to; empty = none.
    path: str = ""
    # Local legs: the PROXY protocol is expected from a balancer (listen), or sent to TCP targets (dial).
    proxy_protocol: bool = False
    # Local listener: ports with targets of their own, one entry per port and protocol.
    mappings: tuple[Mapping, ...] = ()
    any_target: bool = False  # Local dialer: `{}` was given, so flows may name their own target
    # Local dialer: what `any_target` is limited to; None = only by what no server opens unasked.
    allow_targets: tuple[AllowRule, ...] | None = None
    # Tunnel dialer: name whose TXT record holds address and port, and replaces addresses and ports; empty
    # = none.
    dnstxt: str = ""
    # Neither: both address families. Never both flags.
    ipv4_only: bool = False
    ipv6_only: bool = False
    fib: int | None = None  # FreeBSD routing table of this leg's sockets; None = the system's default

    # -- The tunnel's sockets --
    dscp: int = 0  # Differentiated services code point of the datagrams (RFC 2474)
    device: str = ""  # Network interface to use; empty = as the routes say
    fwmark: int = 0  # Mark of the packets, for routes and filters of this machine; 0 = none

    # -- On the wire --
    dialect: Dialect = Dialect.NATIVE
    # One of AES-GCM, AES-OCB, chacha20, xchacha20, none, XOR, or of kcptun's, spelled like this.
    algorithm: str = "none"
    # The exact bytes of the file, from `encryption_password` or `encryption_password_file`; may be empty.
    password: bytes = field(default=b"", repr=False)
    # 32 bytes from `encryption_key`; replaces the password.
    key: bytes | None = field(default=None, repr=False)
    # 32 bytes from `private_key` or its file: this leg has a key pair. A listener then knows `users`; a
    # dialer has the 32 bytes of `server_key`.
    private_key: bytes | None = field(default=None, repr=False)
    server_key: bytes = b""
    # Not compared: a node takes other users without a restart.
    users: tuple[UserConfig, ...] = field(default=(), compare=False, repr=False)
    users_bps: int = 0  # To all of them together; 0 = unlimited
    # Files of secrets and users, which a reload reads again.
    reads: tuple[Path, ...] = field(default=(), compare=False, repr=False)
    mtu_bytes: int | None = None  # Largest IP packet the path carries, if set
    kcp_mtu_bytes: int | None = None  # Largest UDP payload, if set; takes precedence over `mtu_bytes`
    dport_refresh_s: int = 60  # Tunnel dialer: seconds between hops to another port; 0 = never
    servers: bool = False  # Tunnel dialer: each destination is a node of its own
    mux_tunnels: int = 1  # Tunnel dialer: shared paths; 0 = every flow has a path of its own
    max_links: int = 65536  # Tunnel listener: most links at once
    answer_wrong_clock: bool = True  # Tunnel listener: tell dialers the time
    speedtest: bool = True  # Tunnel listener: answer the speed tests of dialers
    keep_alive_s: int = 0  # Seconds of silence before a ping; 0 = off
    # Local dialer: longest wait for a TCP connection to the target.
    dial_timeout_s: int = DIAL_TIMEOUT_DEFAULT_S
    fec: FecConfig | None = None
    stun_server: str = ""  # Tunnel listener: `host` or `host:port`; empty = none
    update_ipv4: str = ""  # Tunnel listener: program to run with a new public IPv4 address; empty = none
    update_ipv6: str = ""  # Tunnel listener: program to run with a new public IPv6 address; empty = none

    # -- kcptun's protocol --
    nocomp: bool = False  # Dialer: the streams are not compressed
    smuxver: int = 1  # Dialer: version of smux
    smuxbuf_bytes: int = 4 << 20  # What a session keeps for slow readers
    streambuf_bytes: int = 2 << 20  # ... and one of its flows, with smux 2
    framesize_bytes: int = 8192
    scavengettl_s: int = 600  # Dialer: how long a session that is replaced goes on with its flows

    # -- Retransmission --
    kcp: str = "regular5"  # Name of the preset, `manual` or `auto`; the numbers below are the resolved ones
    kcp_nodelay: int = 0
    kcp_interval_ms: int = 30
    kcp_resend: int = 2
    kcp_nc: bool = True
    kcp_snd_wnd_segments: int = 1024
    kcp_rcv_wnd_segments: int = 1024
    kcp_auto: bool = False  # Windows and rate are measured, starting from the numbers above
    outbound_bps: int = 0  # Bits per second; 0 = unlimited
    inbound_bps: int = 0  # Bits per second; 0 = unlimited
    blast: bool = False  # Send at once all that the windows allow (as kcptube understands it)

    # -- UDP flows --
    # A UDP flow ends after this many seconds without a packet. Both legs of a relay have the same value, at
    # least that of its ends, with FORWARDING_GRACE_S already added.
    udp_timeout_s: int = UDP_TIMEOUT_DEFAULT_S
    udp_delivery: UdpDelivery = UdpDelivery.UNORDERED

    @property
    def is_kcptube(self) -> bool:
        """Whether this is a tunnel that speaks kcptube's protocol."""
        return self.kind is LegKind.TUNNEL and self.dialect is Dialect.KCPTUBE

    @property
    def is_kcptun(self) -> bool:
        """Whether this is a tunnel that speaks kcptun's protocol."""
        return self.kind is LegKind.TUNNEL and self.dialect is Dialect.KCPTUN

    @property
    def is_native(self) -> bool:
        """Whether this is a tunnel that speaks kcpg's own protocol."""
        return self.kind is LegKind.TUNNEL and self.dialect is Dialect.NATIVE

    @property
    def finds_mtu(self) -> bool:
        """Whether kcpg discovers the path MTU: neither `mtu` nor `kcp_mtu` is set."""
        return self.kcp_mtu_bytes is None and self.mtu_bytes is None

    @property
    def datagram_bytes(self) -> int:
        """Most bytes of a UDP payload on this leg, everything included: kcp_mtu, else derived from mtu, else
        what jumbo Ethernet carries."""
        if self.kcp_mtu_bytes is not None:
            return self.kcp_mtu_bytes
        if self.mtu_bytes is not None:
            return self.mtu_bytes - (IPV4_UDP_BYTES if self.ipv4_only else IPV6_UDP_BYTES)
        # Its module loads the ciphers, which create an event loop, and a daemon has yet to fork.
        from kcpg.core.native.handshake.params import MOST_FOUND_BYTES

        return MOST_FOUND_BYTES


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node, ready to be built. client: local → tunnel; relay: tunnel → tunnel; server: tunnel → local."""

    role: Role
    # Short name for logs and status: `name`, or the file's name without its suffix, numbered if several have
    # the same.
    name: str
    file: Path
    ingress: LegConfig
    egress: LegConfig
    log_path: Path | None = None  # Existing directory for this node's log files (absolute); None = no files
    log_level: str = "info"  # One of trace, debug, info, warning, error
    max_flows: int = 65536  # Most flows at once; the node refuses more
    drain_timeout_s: int | None = (
        None  # How long flows may take to finish at the end; None: the command line's
    )
    workers: int = 1  # Processes that run the node
    user: str = (
        ""  # Name or number of the user that the process becomes once its ports are open; empty = none
    )
    group: str = ""  # Name or number of the group; empty = the user's own
    memory_bytes: int = 0  # For what flows hold, in all; 0: by the machine
    # Where the process serves metrics, `host:port`; empty = nowhere. No part of the node: it goes on
    # untouched when this changes.
    metrics_listen: str = field(default="", compare=False)
    health_listen: str = field(default="", compare=False)  # The same for balancers and probes
    web_listen: str = field(default="", compare=False)  # The same for the page, and what readers must know
    web_token: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Result of loading: the nodes of the files without errors, in the order given, and all problems."""

    nodes: tuple[NodeConfig, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that prevent the start."""
        return tuple(p for p in self.problems if p.severity is Severity.ERROR)

    @property
    def ok(self) -> bool:
        """True if nothing prevents the start."""
        return not self.errors
