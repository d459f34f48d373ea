"""The table of all configuration keys: the source of the parser, the checks, `kcpg help config` and
`docs/configuration.md`."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kcpg.app.config import addresses, users, values
from kcpg.app.config.model import (
    DIAL_TIMEOUT_DEFAULT_S,
    UDP_TIMEOUT_DEFAULT_S,
    Dialect,
    UdpDelivery,
)
from kcpg.app.config.values import ValueParser
from kcpg.core.workerslot import MAX_WORKERS

# Smallest UDP payload configurable: every host takes packets of 576 bytes (RFC 791), 48 of them headers on
# IPv6.
DATAGRAM_BYTES_MIN = 528

DATAGRAM_BYTES_MAX = 65507  # Largest UDP payload of IPv4

MTU_MIN = 576  # Every IPv4 host takes packets of this size (RFC 791)

INTERVAL_MAX_MS = 5000  # ikcp's upper limit

FLOWS_MAX = 1_000_000  # Far beyond what one process has descriptors for


class Scope(enum.Enum):
    """Where a line may stand: in a client's or a server's file, in one of a relay's sections, or outside
    them."""

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
        _NODE, "The role of this node. Required once per file.", whole_node=True,
    ),
    Key(
        "name", "Node", values.short_name, "letters, digits and - _ . (at most 64)",
        "the file's name without its suffix", _NODE,
        "What this node is called in the log, the status and the metrics.", own=True, whole_node=True,
    ),
    Key(
        "listen_on", "Addresses", addresses.address_list, "addresses or names, separated by commas",
        "all interfaces", frozenset({_C, _S, _L}),
        "Addresses to listen on. A client asks nobody for a password: with 127.0.0.1 it serves this machine "
        "alone.",
        limits="{} in a client: see listen_port",
    ),
    Key(
        "listen_port", "Addresses", addresses.port_list, "1-65535; lists and ranges: 3000-3010,4000",
        "required", frozenset({_C, _S, _L}),
        "Ports to listen on. A client listens on the lowest one only, for TCP and UDP.",
        limits="{} in a client: the ports of the [custom_input…] sections",
    ),
    Key(
        "destination_address", "Addresses", addresses.address_list,
        "addresses or names, separated by commas", "required", frozenset({_C, _S, _F}),
        "Client, [forwarder]: addresses of the next node; all must reach the same node. Server: the target's "
        "address, one only.", limits="{} in a server: the client chooses the target",
    ),
    Key(
        "destination_port", "Addresses", addresses.port_list, "1-65535; lists and ranges", "required",
        frozenset({_C, _S, _F}),
        "Client, [forwarder]: ports of the next node; kcpg uses any of them. Server: the target's port, one "
        "only.", limits="{} in a server: the client chooses the target",
    ),
    Key(
        "destination_dnstxt", "Addresses", addresses.single_host, "name", "none", frozenset({_C, _F}),
        "Name whose DNS TXT record holds address and port, 203.0.113.7:3000 or [2001:db8::7]:3000; replaces "
        "the two keys above. Several entries must reach the same node. kcpg looks the name up again when the "
        "TTL expires and when the link falls silent.",
    ),
    Key(
        "destination_is", "Addresses", values.choice("node", "servers"), "node, servers", "node",
        frozenset({_C, _F}),
        "What several addresses are. node: addresses of the same node; servers: each is a server of its own "
        "with the same secret, and a link and its flows stay with the one that they have. See fleet.md.",
        default="node", own=True,
    ),
    Key(
        "ipv4_only", "Addresses", values.boolean, "yes, true, 1, no, false, 0", "no", _ALL,
        "Do not use IPv6. Required on systems without it. Outside a relay's sections only yes has an effect.",
        default=False,
    ),
    Key(
        "ipv6_only", "Addresses", values.boolean, "yes, true, 1, no, false, 0", "no", _ALL,
        "Do not use IPv4. Outside a relay's sections only yes has an effect.", default=False,
    ),
    Key(
        "allow_targets", "Addresses", addresses.allow_list,
        "networks, names, *.name, *; each may end in :port or :port-port; ! before it denies",
        "any target that no rule below denies", frozenset({_S}),
        "With {}: the targets that clients may choose, for example "
        "10.0.0.0/8:22,[fd00::/8]:80-90,*.example.org, and those that they may not, for example "
        "!10.0.0.0/8,!*.example.net. A rule that denies wins; with such rules alone, all else is permitted. "
        "A network also holds for the addresses of a name. Link-local and cloud metadata addresses "
        "(169.254.0.0/16, fe80::/10 and others) are denied unless a rule names them, or a part of them.",
        own=True,
    ),
    Key(
        "socks_port", "Applications", values.within(1, values.PORT_MAX), "1-65535", "none", frozenset({_C}),
        "Port of a proxy for this machine's programs: SOCKS5 (TCP and UDP) and HTTP's CONNECT. They choose "
        "the target, so the server needs destination_port={}. Listens at 127.0.0.1 unless listen_on says "
        "more; it asks for no password.", own=True,
    ),
    Key(
        "listen_path", "Applications", values.unix_path, "absolute path", "none", frozenset({_C}),
        "UNIX socket to listen on for applications, beside or instead of listen_port. What a killed process "
        "left behind is replaced.", own=True,
    ),
    Key(
        "destination_path", "Applications", values.unix_path, "absolute path", "none", frozenset({_S}),
        "UNIX socket that is the target of TCP flows. Beside it, destination_address and destination_port "
        "are that of UDP flows.", own=True,
    ),
    Key(
        "proxy_protocol", "Applications", values.proxy_protocol, "off, v2", "off", frozenset({_C, _S}),
        "The application's address, said first in each TCP connection (HAProxy's PROXY protocol). Server: "
        "version 2 is sent to the target, which must expect it. Client: versions 1 and 2 are expected from a "
        "balancer in front, and connections without it are refused.", default=False, own=True,
    ),
    Key(
        "dialect", "Encryption", values.dialect, "native, kcptube, kcptun", "native", _ALL,
        "Protocol between nodes. kcptube, kcptun: that of these programs, for nodes that run them; both are "
        "weaker and lack features, which a warning at every start names. See kcptube.md and kcptun.md.",
        default=Dialect.NATIVE, own=True,
    ),
    Key(
        "encryption_algorithm", "Encryption", values.algorithm,
        f"{', '.join(values.ALGORITHMS)}; with kcptun: {', '.join(values.KCPTUN_ALGORITHMS)}, XOR, none",
        "AES-GCM (kcptun: aes) with a password or key, else none", _ALL,
        "Cipher of the tunnel; must be the same at both ends. none and XOR protect against accidental damage "
        "only, null not even against that.",
    ),
    Key(
        "encryption_password", "Encryption", values.secret, "any text", "none", _ALL,
        "Secret that both ends share; must be the same at both.", secret=True,
    ),
    Key(
        "encryption_password_file", "Encryption", values.free_text,
        "path, relative to the configuration file", "none", _ALL,
        "File that holds the password. Line ends at the end of the file do not count. "
        "${CREDENTIALS_DIRECTORY}/NAME: a credential of the systemd unit.", own=True,
    ),
    Key(
        "answer_wrong_clock", "Encryption", values.boolean, "yes, true, 1, no, false, 0", "yes", _LISTEN,
        "Tell a dialer whose clock is wrong by a minute what time it is, as machines without a battery need "
        "it. no: answer nothing, so that nobody finds this node by a copy of an old handshake.",
        default=True, own=True,
    ),
    Key(
        "encryption_key", "Encryption", values.key_32, "base64 of 32 bytes, from kcpg keygen", "none", _ALL,
        "Key used instead of a password: nobody can guess it, and the node starts faster.", own=True,
        secret=True,
    ),
    Key(
        "private_key_file", "Encryption", values.free_text, "path, relative to the configuration file",
        "none", _ALL,
        "File with this node's private key, as kcpg keygen --pair FILE writes it. Nodes with key pairs know "
        "each other by their public keys: see users.md. A password or key may be set besides. "
        "${CREDENTIALS_DIRECTORY}/NAME: a credential of the systemd unit.", own=True,
    ),
    Key(
        "private_key", "Encryption", values.key_32, "base64 of 32 bytes, from kcpg keygen --pair", "none",
        _ALL, "The private key itself, instead of private_key_file.", own=True, secret=True,
    ),
    Key(
        "server_key", "Encryption", users.public_key, "base64 of 32 bytes", "none", _DIAL,
        "Public key of the next node's listening side, which nobody else can pretend to be. Requires "
        "private_key_file.", own=True,
    ),
    Key(
        "users", "Encryption", values.free_text, "path, relative to the configuration file", "none", _LISTEN,
        "File of the users who may have links, or a directory of such files (*.conf): see users.md. A reload "
        "takes effect at once, and the links of those who may have none any more end. Requires "
        "private_key_file.", own=True,
    ),
    Key(
        "kcp", "Retransmission", values.preset, "fast1-6, regular1-5, manual, auto", "regular5", _ALL,
        "Preset of the kcp_ keys below; lower numbers retransmit sooner. auto adapts by itself: recommended.",
    ),
    Key(
        "kcp_nodelay", "Retransmission", values.within(0, 2), "0, 1, 2", "required with kcp=manual", _ALL,
        "How time-outs grow. 0: they double; 1: by half the segment's own; 2: by half the link's.",
    ),
    Key(
        "kcp_interval", "Retransmission", values.clamped(0, INTERVAL_MAX_MS), f"0-{INTERVAL_MAX_MS} ms",
        "required with kcp=manual", _ALL, "Smallest margin between the round-trip time and the time-out.",
        limits="clamped to the range",
    ),
    Key(
        "kcp_resend", "Retransmission", values.clamped(0, values.WINDOW_MAX_SEGMENTS), "0 and up",
        "required with kcp=manual", _ALL,
        "A missing segment is resent once this many later ones are acknowledged; 0: at its time-out only.",
        limits="clamped to the range",
    ),
    Key(
        "kcp_nc", "Retransmission", values.boolean, "yes, true, 1, no, false, 0",
        "required with kcp=manual", _ALL,
        "yes: no congestion window. Recommended: yes. With no, every loss shrinks the window.",
    ),
    Key(
        "kcp_sndwnd", "Retransmission", values.window, "segments, 0 = from the preset", "from the preset",
        _ALL, "Most segments of a flow in flight.",
        limits=f"at most {values.WINDOW_MAX_SEGMENTS}; negative: error",
    ),
    Key(
        "kcp_rcvwnd", "Retransmission", values.window, "segments, 0 = from the preset", "from the preset",
        _ALL, "Most segments of a flow held for a slow reader.",
        limits=f"at most {values.WINDOW_MAX_SEGMENTS}; negative: error",
    ),
    Key(
        "blast", "Retransmission", values.boolean, "yes, true, 1, no, false, 0", "no", _ALL,
        "Accepted for compatibility with kcptube: kcpg always sends at once, never at the next tick.",
        default=False,
    ),
    Key(
        "outbound_bandwidth", "Bandwidth and size", values.bandwidth,
        "bit/s, with K M G (1024) or k m g (1000)", "unlimited", _ALL,
        "Highest rate at which this node sends.", default=0,
    ),
    Key(
        "inbound_bandwidth", "Bandwidth and size", values.bandwidth,
        "bit/s, with K M G (1024) or k m g (1000)", "unlimited", _ALL,
        "Highest rate at which this node receives.", default=0,
    ),
    Key(
        "users_bandwidth", "Bandwidth and size", values.bandwidth,
        "bit/s, with K M G (1024) or k m g (1000)", "unlimited", _LISTEN,
        "With users: highest rate at which this node sends to all of them together. Each gets an equal part, "
        "and those who want more divide what others leave, however many links and flows each has.",
        default=0, own=True,
    ),
    Key(
        "mtu", "Bandwidth and size", values.size(MTU_MIN, 65535), f"{MTU_MIN}-65535 bytes, 0 = unset",
        "discovered", _ALL,
        "Largest IP packet that the network carries; kcp_mtu is 48 bytes less (28 with ipv4_only). Unset: "
        "kcpg discovers the path MTU and follows its changes. kcpg never fragments.",
    ),
    Key(
        "kcp_mtu", "Bandwidth and size", values.size(DATAGRAM_BYTES_MIN, DATAGRAM_BYTES_MAX),
        f"{DATAGRAM_BYTES_MIN}-{DATAGRAM_BYTES_MAX} bytes, 0 = unset", "discovered", _ALL,
        "Largest UDP payload, everything included. Takes precedence over mtu.",
    ),
    Key(
        "fec", "Bandwidth and size", values.fec, "D:R (D + R at most 255), auto, off",
        "auto with kcp=auto, else off", _ALL,
        "R redundant datagrams for every D. auto: as many as the losses call for, and none for bulk traffic. "
        "Applies to what this end sends; the other end has its own setting. A 0 on either side: off.",
    ),
    Key(
        "udp_timeout", "Flows", values.defaulted(1, 65535, UDP_TIMEOUT_DEFAULT_S), "1-65535 s, 0 = default",
        str(UDP_TIMEOUT_DEFAULT_S), _ALL,
        "A UDP flow ends after this long without a packet. A relay waits as long as its ends do, and 5 s "
        "more.", limits="the default",
    ),
    Key(
        "udp_delivery", "Flows", values.delivery, "unordered, ordered, datagram", "unordered", _ALL,
        "How UDP packets arrive. unordered: kcpg resends lost ones and delivers each at once; ordered: a "
        "lost one holds up the next; datagram: kcpg resends nothing once the flow is open. The client's "
        "setting applies to its flows.",
        default=UdpDelivery.UNORDERED, own=True,
    ),
    Key(
        "dial_timeout", "Flows", values.within(1, 65535), "1-65535 s", str(DIAL_TIMEOUT_DEFAULT_S),
        _DIAL | {_S}, "How long a flow waits at most: in a server for the target to accept it, in a client "
        "or a [forwarder] for a link to the next node.",
        default=DIAL_TIMEOUT_DEFAULT_S, own=True,
    ),
    Key(
        "speedtest", "Flows", values.boolean, "yes, true, 1, no, false, 0", "yes", _LISTEN,
        "Answer kcpg speedtest of a dialer. A test is a flow like others: the bandwidths and the shares of "
        "its link hold for it, and it lasts 30 s at most.", default=True, own=True,
    ),
    Key(
        "max_flows", "Flows", values.within(1, FLOWS_MAX), f"1-{FLOWS_MAX}", "65536", _NODE,
        "Most flows at once; the node refuses more.", default=65536, own=True, whole_node=True,
    ),
    Key(
        "drain_timeout", "Flows", values.within(0, 86400), "0-86400 s", "5 (--drain)", _NODE,
        "How long flows may take to finish when the node is told to end. Dialers go elsewhere meanwhile, and "
        "open their new flows there. A second signal ends the node at once.", own=True, whole_node=True,
    ),
    Key(
        "max_links", "Flows", values.within(1, FLOWS_MAX), f"1-{FLOWS_MAX}", "65536", _LISTEN,
        "Most links at once. When there are so many, the address (/32, or /64 of IPv6) that has most of them "
        "gives way: those of its links that do not answer are closed.",
        default=65536, own=True,
    ),
    Key(
        "keep_alive", "Paths", values.clamped(0, 65535), "0-65535 s", "0 (off)", _ALL,
        "After this long without a datagram, kcpg asks the other end for a sign of life.",
        limits="clamped to the range",
        default=0,
    ),
    Key(
        "mux_tunnels", "Paths", values.clamped(0, 65535), "0-65535", "1", frozenset({_C, _F}),
        "Number of paths that all flows share. Each is a link with a UDP port of its own, opened at start; a "
        "flow takes the one with the fewest flows. 0: every flow has its own path, and its own link at the "
        "next node. At most 100 are open; beyond that, flows share. outbound_bandwidth applies to all paths "
        "together, inbound_bandwidth to each. With dialect=kcptube the default is 0.",
        limits="clamped to the range", default=1,
    ),
    Key(
        "dport_refresh", "Paths", values.refresh, "0, 20-32767 s", "60", _DIAL,
        "How often the link moves to another source and destination port; 0: only when a port goes bad. With "
        "dialect=kcptun (default 0) a new session takes the new flows, as with its autoexpire.",
        limits="1-19 become 20, larger ones 32767; negative ones are an error", default=60,
    ),
    Key(
        "dscp", "Paths", values.dscp, "0-63, or a name: EF, CS1, AF41", "0", _ALL,
        "Code point of the tunnel's datagrams, by which networks sort traffic (RFC 2474).", default=0,
        own=True,
    ),
    Key(
        "bind_device", "Paths", values.device, "name of an interface", "as the routes say", _ALL,
        "Network interface of the tunnel's sockets, whatever the routes say.", own=True,
    ),
    Key(
        "fwmark", "Paths", values.fwmark, "0-4294967295, or hexadecimal", "none", _ALL,
        "Mark of the tunnel's packets, for the routing rules and filters of this machine; so they can keep "
        "the tunnel out of itself. Needs CAP_NET_ADMIN.", default=0, own=True,
    ),
    Key(
        "stun_server", "NAT", addresses.host_port, "host or host:port", "none", frozenset({_S, _L}),
        "STUN server to ask for the public address of the listening port. kcpg asks every 25 to 30 s, which "
        "keeps a NAT mapping open, logs the address and writes it to ip_address.txt in log_path. Requires "
        "exactly one listen_port and at most one listen_on. Default port: 3478.",
    ),
    Key(
        "update_ipv4", "NAT", values.free_text, "path of a program", "none", _LISTEN,
        "Program to run with each new public IPv4 address as its argument, for example 203.0.113.7:3000. It "
        "runs without a shell, for 30 s at most. Requires stun_server.",
    ),
    Key(
        "update_ipv6", "NAT", values.free_text, "path of a program", "none", _LISTEN,
        "Program to run with each new public IPv6 address as its argument, for example [2001:db8::7]:3000. "
        "It runs without a shell, for 30 s at most. Requires stun_server.",
    ),
    Key(
        "nocomp", "kcptun", values.boolean, "yes, true, 1, no, false, 0", "no", _DIAL,
        "With dialect=kcptun: do not compress; must be as at the server. A server finds it out by itself.",
        default=False, own=True,
    ),
    Key(
        "smuxver", "kcptun", values.within(1, 2), "1, 2", "1", _DIAL,
        "With dialect=kcptun: version of smux; must be as at the server. kcptun's default was 1 until "
        "November 2025 and is 2 since. A server finds it out by itself.", default=1, own=True,
    ),
    Key(
        "smuxbuf", "kcptun", values.within(65536, 1 << 30), "65536-1073741824 bytes", "4194304", _ALL,
        "With dialect=kcptun: what one session keeps for readers that are slow.", default=4 << 20, own=True,
    ),
    Key(
        "streambuf", "kcptun", values.within(65536, 1 << 30), "65536-1073741824 bytes", "2097152", _ALL,
        "With dialect=kcptun and smux 2: what one flow keeps for a reader that is slow.", default=2 << 20,
        own=True,
    ),
    Key(
        "framesize", "kcptun", values.within(1024, 65535), "1024-65535 bytes", "8192", _ALL,
        "With dialect=kcptun: largest frame sent.", default=8192, own=True,
    ),
    Key(
        "scavengettl", "kcptun", values.within(1, 2**31 - 1), "1 s and up", "600", _DIAL,
        "With dialect=kcptun: how long a session that another has replaced goes on with its flows.",
        default=600, own=True,
    ),
    Key(
        "log_path", "Process", values.free_text, "existing directory", "none", _NODE,
        "Directory for log files and ip_address.txt.", whole_node=True,
    ),
    Key(
        "log_level", "Process", values.choice("trace", "debug", "info", "warning", "error"),
        "trace, debug, info, warning, error", "info", _NODE, "Lowest severity to log. trace: also what "
        "congestion control believes of every link, up to 20 times a second.", default="info",
        own=True, whole_node=True,
    ),
    Key(
        "memory", "Process", values.memory, "4M-1024G bytes, with K M G (1024) or k m g (1000)",
        "an eighth of the machine's, 8M to 320M", _NODE,
        "Memory for what flows have sent, received and not read, in all. As it fills, links and flows get "
        "shares: see limits.md.", own=True, whole_node=True,
    ),
    Key(
        "workers", "Process", values.processes(MAX_WORKERS), f"1-{MAX_WORKERS}, auto", "1", _NODE,
        "Number of processes that run the node; auto: one per processor core. See workers.md. A client "
        "divides its bandwidths among them, every node its max_flows.", default=1,
        own=True, whole_node=True,
    ),
    Key(
        "user", "Process", values.word, "name or number", "none", _NODE,
        "User that the process becomes once its ports, logs and status are open; only root can. It keeps the "
        "right to bind ports below 1024, for a reload, and nothing else of root's. This user must be able to "
        "read the configuration for a reload, and to write to log_path for rotation and ip_address.txt; "
        "update_ipv4 runs as this user. The same in every file of a process.",
        own=True, whole_node=True,
    ),
    Key(
        "group", "Process", values.word, "name or number", "the user's own", _NODE,
        "With user: the group that the process gets.", own=True, whole_node=True,
    ),
    Key(
        "metrics_listen", "Process", addresses.listen_address, "address:port", "none", _NODE,
        "Where this process serves the figures of all its nodes to Prometheus, for example 127.0.0.1:9150. "
        "Everybody who reaches the address can read them. See status.md.", own=True, whole_node=True,
    ),
    Key(
        "health_listen", "Process", addresses.listen_address, "address:port", "none", _NODE,
        "Where this process tells balancers and probes by HTTP whether its nodes may get new clients: 200, "
        "or 503 while one drains, is full, or has no link to the next node. See fleet.md.", own=True,
        whole_node=True,
    ),
    Key(
        "web_listen", "Process", addresses.listen_address, "address:port", "none", _NODE,
        "Where this process shows its links, flows and the plots of the last hour to browsers, for example "
        "127.0.0.1:9151. The page only reads. Other addresses than this machine's own need web_token. See "
        "status.md.", own=True, whole_node=True,
    ),
    Key(
        "web_token", "Process", values.token, "at least 16 characters, as from kcpg keygen", "none", _NODE,
        "With web_listen: a browser opens http://ADDRESS:PORT/?token=… once. It travels unencrypted: beyond "
        "this machine only through a tunnel or a proxy with TLS.", own=True, secret=True, whole_node=True,
    ),
    Key(
        "fib_ingress", "Process", values.clamped(0, 65535), "0-65535", "the system's", _ALL,
        "FreeBSD: routing table for incoming traffic.", limits="clamped to the range",
        pending="routing tables",
    ),
    Key(
        "fib_egress", "Process", values.clamped(0, 65535), "0-65535", "the system's", _ALL,
        "FreeBSD: routing table for outgoing traffic.", limits="clamped to the range",
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
