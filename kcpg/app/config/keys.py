"""The table of all configuration keys. Parser, checks, `kcpg help config` and `docs/configuration.md` come
from it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kcpg.app.config import addresses, values
from kcpg.app.config.model import (
    DIAL_TIMEOUT_DEFAULT_S,
    UDP_TIMEOUT_DEFAULT_S,
    Dialect,
    UdpDelivery,
)
from kcpg.app.config.values import ValueParser
from kcpg.core.sharing import MAX_WORKERS

# Smallest UDP payload configurable: every host takes packets of 576 bytes (RFC 791), 48 of them headers on
# IPv6.
DATAGRAM_BYTES_MIN = 528

DATAGRAM_BYTES_MAX = 65507  # Largest UDP payload of IPv4

MTU_MIN = 576  # Every IPv4 host takes packets of this size (RFC 791)

INTERVAL_MAX_MS = 5000  # ikcp's upper limit

FLOWS_MAX = 1_000_000  # Far beyond what one process has descriptors for


class Scope(enum.Enum):
    """Where a line can stand: a client's or server's file, a relay's two sections, or a relay's file
    outside them."""

    CLIENT = "client"
    SERVER = "server"
    RELAY = "relay"
    LISTENER = "listener"
    FORWARDER = "forwarder"


_C, _S, _R, _L, _F = Scope.CLIENT, Scope.SERVER, Scope.RELAY, Scope.LISTENER, Scope.FORWARDER
_ALL = frozenset(Scope)
_DIAL = frozenset({_C, _R, _F})
_LISTEN = frozenset({_S, _R, _L})
_NODE = frozenset({_C, _S, _R})


@dataclass(frozen=True, slots=True)
class Key:
    """One row of the table."""

    name: str
    group: str  # Heading in the reference
    parse: ValueParser
    values: str  # What may be written, for people
    default_text: str  # What holds where the key is missing, for people
    # Where the key has a meaning. With RELAY, a value outside the sections overrides those inside.
    scopes: frozenset[Scope]
    meaning: str
    limits: str = ""  # What happens to values outside the usual range, for people
    default: object = None  # The value that changes nothing
    pending: str = ""  # Non-empty: the value is checked, but the feature of this name is not in this version
    own: bool = False  # True: kcptube does not have this key
    secret: bool = False
    whole_node: bool = False  # True: concerns the node, not one leg


_KEYS = (
    Key(
        "mode", "Node", values.choice("client", "relay", "server"), "client, relay, server", "required",
        _NODE, "What this node is. Exactly once in a file.", whole_node=True,
    ),
    Key(
        "listen_on", "Addresses", addresses.address_list, "addresses or names, separated by commas",
        "all interfaces", frozenset({_C, _S, _L}), "Addresses to listen on.",
        limits="{} in a client: see listen_port",
    ),
    Key(
        "listen_port", "Addresses", addresses.port_list, "1-65535; lists and ranges: 3000-3010,4000",
        "required", frozenset({_C, _S, _L}),
        "Ports to listen on. A client listens for TCP and UDP on the smallest one.",
        limits="{} in a client: the ports of the [custom_input…] sections",
    ),
    Key(
        "destination_address", "Addresses", addresses.address_list,
        "addresses or names, separated by commas", "required", frozenset({_C, _S, _F}),
        "Client, [forwarder]: addresses of the next node, all of the same one. Server: the one target.",
        limits="{} in a server: the client chooses",
    ),
    Key(
        "destination_port", "Addresses", addresses.port_list, "1-65535; lists and ranges", "required",
        frozenset({_C, _S, _F}),
        "Client, [forwarder]: ports of the next node, any of them is used. Server: the one port of the "
        "target.", limits="{} in a server: the client chooses",
    ),
    Key(
        "destination_dnstxt", "Addresses", addresses.single_host, "name", "none", frozenset({_C, _F}),
        "Name whose DNS TXT record holds address and port, instead of the two keys above: "
        "203.0.113.7:3000 or [2001:db8::7]:3000. Several are one node. Looked up again when the link is "
        "silent and by the record's TTL.",
    ),
    Key(
        "ipv4_only", "Addresses", values.boolean, "yes, true, 1, no, false, 0", "no", _ALL,
        "Use no IPv6. Needed where the system has none. Outside the sections of a relay only a yes counts.",
        default=False,
    ),
    Key(
        "ipv6_only", "Addresses", values.boolean, "yes, true, 1, no, false, 0", "no", _ALL,
        "Use no IPv4. Outside the sections of a relay only a yes counts.", default=False,
    ),
    Key(
        "allow_targets", "Addresses", addresses.allow_list,
        "networks, names, *.name, *; each may end in :port or :port-port", "any target", frozenset({_S}),
        "With {}: the targets a client may choose, for example "
        "10.0.0.0/8:22,[fd00::/8]:80-90,*.example.org.", own=True,
    ),
    Key(
        "dialect", "Encryption", values.dialect, "native, kcptube", "native", _ALL,
        "Protocol between nodes. kcptube: that of kcptube, for talking to one; weaker and poorer, and a "
        "warning at every start says how. See kcptube.md.",
        default=Dialect.NATIVE, own=True,
    ),
    Key(
        "encryption_algorithm", "Encryption", values.algorithm, ", ".join(values.ALGORITHMS),
        "AES-GCM with a password or key, else none", _ALL,
        "Protection of what is carried; must be the same at both ends. none and XOR protect against "
        "accidents only.",
    ),
    Key(
        "encryption_password", "Encryption", values.secret, "any text", "none", _ALL,
        "The secret both ends share; must be the same at both.", secret=True,
    ),
    Key(
        "encryption_password_file", "Encryption", values.free_text,
        "path, seen from the configuration file", "none", _ALL,
        "File that holds the password: all of its bytes but line ends after the last.", own=True,
    ),
    Key(
        "encryption_key", "Encryption", values.key_32, "base64 of 32 bytes, from kcpg keygen", "none", _ALL,
        "A key instead of a password: nothing to guess, and a faster start.", own=True, secret=True,
    ),
    Key(
        "kcp", "Retransmission", values.preset, "fast1-6, regular1-5, manual, auto", "regular5", _ALL,
        "Set of the values below; the smaller the number the more eager. auto adapts by itself: recommended.",
    ),
    Key(
        "kcp_nodelay", "Retransmission", values.within(0, 2), "0, 1, 2", "required with kcp=manual", _ALL,
        "Growth of time-outs. 0: double; 1: by half of the segment's own; 2: by half of the link's.",
    ),
    Key(
        "kcp_interval", "Retransmission", values.clamped(0, INTERVAL_MAX_MS), f"0-{INTERVAL_MAX_MS} ms",
        "required with kcp=manual", _ALL, "Smallest margin between round-trip time and time-out.",
        limits="moved to the nearer end",
    ),
    Key(
        "kcp_resend", "Retransmission", values.clamped(0, values.WINDOW_MAX_SEGMENTS), "0 and up",
        "required with kcp=manual", _ALL,
        "Segments acknowledged after a missing one before it is sent again; 0: only at its time-out.",
        limits="moved to the nearer end",
    ),
    Key(
        "kcp_nc", "Retransmission", values.boolean, "yes, true, 1, no, false, 0",
        "required with kcp=manual", _ALL,
        "yes: no congestion window. Should be yes: with no, any loss makes it slow.",
    ),
    Key(
        "kcp_sndwnd", "Retransmission", values.window, "segments, 0 = the preset's", "of the preset", _ALL,
        "Most segments of a flow on the way.",
        limits=f"at most {values.WINDOW_MAX_SEGMENTS}; negative: error",
    ),
    Key(
        "kcp_rcvwnd", "Retransmission", values.window, "segments, 0 = the preset's", "of the preset", _ALL,
        "Most segments of a flow kept for a reader that is slow.",
        limits=f"at most {values.WINDOW_MAX_SEGMENTS}; negative: error",
    ),
    Key(
        "blast", "Retransmission", values.boolean, "yes, true, 1, no, false, 0", "no", _ALL,
        "Send what an application wrote at once, not at the next tick; kcpg always does, with no as well.",
        default=False,
    ),
    Key(
        "outbound_bandwidth", "Bandwidth and size", values.bandwidth,
        "bit/s, with K M G (1024) or k m g (1000)", "not limited", _ALL,
        "Rate at which this node may send.", default=0,
    ),
    Key(
        "inbound_bandwidth", "Bandwidth and size", values.bandwidth,
        "bit/s, with K M G (1024) or k m g (1000)", "not limited", _ALL,
        "Rate at which this node may receive.", default=0,
    ),
    Key(
        "mtu", "Bandwidth and size", values.size(MTU_MIN, 65535), f"{MTU_MIN}-65535 bytes, 0 = not set",
        "found", _ALL,
        "Largest IP packet of the network; gives kcp_mtu (48 bytes less, 28 with ipv4_only). Not set: what"
        " the path takes is found, and followed when it changes. Nothing is ever fragmented.",
    ),
    Key(
        "kcp_mtu", "Bandwidth and size", values.size(DATAGRAM_BYTES_MIN, DATAGRAM_BYTES_MAX),
        f"{DATAGRAM_BYTES_MIN}-{DATAGRAM_BYTES_MAX} bytes, 0 = not set", "found", _ALL,
        "Largest content of a UDP datagram, everything included. Wins over mtu.",
    ),
    Key(
        "fec", "Bandwidth and size", values.fec, "D:R (D + R at most 255), auto, off",
        "auto with kcp=auto, else off", _ALL,
        "R redundant datagrams for every D; with auto as many as losses call for, and none for bulk. It"
        " is about what this end sends; the other end has its own setting. A 0 on either side: off.",
    ),
    Key(
        "udp_timeout", "Flows", values.defaulted(1, 65535, UDP_TIMEOUT_DEFAULT_S), "1-65535 s, 0 = default",
        str(UDP_TIMEOUT_DEFAULT_S), _ALL,
        "Silence after which a UDP flow is forgotten. A relay waits at least as long as its ends, and 5"
        " s more.", limits="otherwise the default",
    ),
    Key(
        "udp_delivery", "Flows", values.delivery, "unordered, ordered, datagram", "unordered", _ALL,
        "UDP packets: unordered: sent again until they arrive, delivered at once; ordered: a lost one "
        "holds up the next; datagram: never sent again, once the flow stands. The client's choice holds for "
        "a flow.",
        default=UdpDelivery.UNORDERED, own=True,
    ),
    Key(
        "dial_timeout", "Flows", values.within(1, 65535), "1-65535 s", str(DIAL_TIMEOUT_DEFAULT_S),
        _DIAL | {_S}, "Longest wait of a flow: in a server for the target to accept it, in a client and a "
        "forwarder for a link to the next node.",
        default=DIAL_TIMEOUT_DEFAULT_S, own=True,
    ),
    Key(
        "max_flows", "Flows", values.within(1, FLOWS_MAX), f"1-{FLOWS_MAX}", "65536", _NODE,
        "Flows at once; more are refused.", default=65536, own=True, whole_node=True,
    ),
    Key(
        "keep_alive", "Paths", values.clamped(0, 65535), "0-65535 s", "0 (off)", _ALL,
        "Silence after which the other end is asked for a sign of life.", limits="moved to the nearer end",
        default=0,
    ),
    Key(
        "mux_tunnels", "Paths", values.clamped(0, 65535), "0-65535", "1", frozenset({_C, _F}),
        "Paths that all flows share: links with a UDP port each, opened at the start; a flow takes the one "
        "with the fewest flows. 0: each flow has a path to itself, at the next node a link of its own. "
        "More than 100 are never open; beyond, flows share. outbound_bandwidth holds for all paths "
        "together, inbound_bandwidth for each. With dialect=kcptube the default is 0.",
        limits="moved to the nearer end", default=1,
    ),
    Key(
        "dport_refresh", "Paths", values.refresh, "0, 20-32767 s", "60", _DIAL,
        "Time after which another source and destination port are taken; 0: only when a port goes bad.",
        limits="1-19: 20; above: 32767; negative: error", default=60,
    ),
    Key(
        "stun_server", "NAT", addresses.host_port, "host or host:port", "none", frozenset({_S, _L}),
        "STUN server that is asked for the public address of the listening port, every 25 to 30 s, which "
        "keeps a NAT open. The address is logged and written to ip_address.txt in log_path. One "
        "listen_port and at most one listen_on only. The port is 3478 unless given.",
    ),
    Key(
        "update_ipv4", "NAT", values.free_text, "path of a program", "none", _LISTEN,
        "Run, without a shell, with each new public IPv4 address as its argument: "
        "203.0.113.7:3000. It has 30 s. Needs stun_server.",
    ),
    Key(
        "update_ipv6", "NAT", values.free_text, "path of a program", "none", _LISTEN,
        "Run, without a shell, with each new public IPv6 address as its argument: "
        "[2001:db8::7]:3000. It has 30 s. Needs stun_server.",
    ),
    Key(
        "log_path", "Process", values.free_text, "existing directory", "none", _NODE,
        "Directory for log files and ip_address.txt.", whole_node=True,
    ),
    Key(
        "log_level", "Process", values.choice("debug", "info", "warning", "error"),
        "debug, info, warning, error", "info", _NODE, "Least severity that is logged.", default="info",
        own=True, whole_node=True,
    ),
    Key(
        "workers", "Process", values.processes(MAX_WORKERS), f"1-{MAX_WORKERS}, auto", "1", _NODE,
        "Processes to spread the node over; auto: one for each processor core. More than one: see "
        "workers.md. A client divides its bandwidths among them, every node its max_flows.", default=1,
        own=True, whole_node=True,
    ),
    Key(
        "fib_ingress", "Process", values.clamped(0, 65535), "0-65535", "the default one", _ALL,
        "FreeBSD: routing table of what comes in.", limits="moved to the nearer end",
        pending="routing tables",
    ),
    Key(
        "fib_egress", "Process", values.clamped(0, 65535), "0-65535", "the default one", _ALL,
        "FreeBSD: routing table of what goes out.", limits="moved to the nearer end",
        pending="routing tables",
    ),
)  # fmt: skip

KEYS: dict[str, Key] = {key.name: key for key in _KEYS}

# Every section and the mode it belongs to.
SECTIONS: dict[str, str] = {
    "listener": "relay",
    "forwarder": "relay",
    "custom_input": "client",
    "custom_input_tcp": "client",
    "custom_input_udp": "client",
}
