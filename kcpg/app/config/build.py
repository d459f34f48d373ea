"""From a checked file to the node that it describes, with defaults filled in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kcpg.app.config import presets
from kcpg.app.config.addresses import version
from kcpg.app.config.dialect import is_kcptube, is_kcptun
from kcpg.app.config.keypairs import private_key
from kcpg.app.config.model import (
    DIAL_TIMEOUT_DEFAULT_S,
    FORWARDING_GRACE_S,
    UDP_TIMEOUT_DEFAULT_S,
    Action,
    AllowRule,
    Dialect,
    FecConfig,
    LegConfig,
    LegKind,
    Mapping,
    NodeConfig,
    Role,
    UdpDelivery,
)
from kcpg.app.config.raw import Options, RawFile

# Keys that name files to read. Credentials of systemd are its own to keep readable.
_FILES = ("encryption_password_file", "private_key_file", "users")

# Arguments of LegConfig: mypy does not see through `**`, so the tests compare every field.
Fields = dict[str, Any]


def build(raw: RawFile, name: str, ends_timeout_s: int) -> NodeConfig:
    """The node of a file without errors. `ends_timeout_s`: the larger udp_timeout of a relay's ends."""
    outside = raw.outside
    log_path = outside.get("log_path", str)
    assert raw.role is not None
    ingress, egress = _LEGS[raw.role](raw, ends_timeout_s)
    return NodeConfig(
        role=raw.role,
        name=name,
        file=Path(raw.name),
        ingress=ingress,
        egress=egress,
        log_path=Path(os.path.abspath(log_path)) if log_path else None,
        log_level=outside.get("log_level", str) or "info",
        max_flows=outside.get("max_flows", int) or 65536,
        drain_timeout_s=outside.get("drain_timeout", int),
        workers=outside.get("workers", int) or 1,
        user=outside.get("user", str) or "",
        group=outside.get("group", str) or "",
        memory_bytes=outside.get("memory", int) or 0,
        metrics_listen=outside.get("metrics_listen", str) or "",
        health_listen=outside.get("health_listen", str) or "",
        web_listen=outside.get("web_listen", str) or "",
        web_token=outside.get("web_token", str) or "",
    )


def _client(raw: RawFile, _ends_timeout_s: int) -> tuple[LegConfig, LegConfig]:
    options = raw.outside
    custom = options.ports("listen_port").custom or options.addresses("listen_on").custom
    ingress = LegConfig(
        kind=LegKind.LOCAL,
        action=Action.LISTEN,
        addresses=_usable(options, "listen_on"),
        ports=options.ports("listen_port").numbers[:1],
        mappings=_mappings(raw) if custom else (),
        socks_port=options.get("socks_port", int) or 0,
        path=options.get("listen_path", str) or "",
        proxy_protocol=options.flag("proxy_protocol"),
        fib=options.get("fib_ingress", int),
        **_common(options),
    )
    return ingress, _tunnel_dial(raw, options, "", _timeout(options))


def _server(raw: RawFile, _ends_timeout_s: int) -> tuple[LegConfig, LegConfig]:
    options = raw.outside
    ports = options.ports("destination_port")
    addresses = options.addresses("destination_address")
    egress = LegConfig(
        kind=LegKind.LOCAL,
        action=Action.DIAL,
        addresses=addresses.names,
        ports=ports.numbers,
        any_target=ports.custom or addresses.custom,
        allow_targets=_allow_targets(options),
        path=options.get("destination_path", str) or "",
        proxy_protocol=options.flag("proxy_protocol"),
        dial_timeout_s=options.get("dial_timeout", int) or DIAL_TIMEOUT_DEFAULT_S,
        fib=options.get("fib_egress", int),
        **_common(options),
    )
    return _tunnel_listen(raw, options, "", _timeout(options)), egress


def _relay(raw: RawFile, ends_timeout_s: int) -> tuple[LegConfig, LegConfig]:
    assert raw.listener is not None and raw.forwarder is not None
    timeout_s = max(ends_timeout_s, _timeout(raw.listener), _timeout(raw.forwarder)) + FORWARDING_GRACE_S
    return (
        _tunnel_listen(raw, raw.listener, "listener", timeout_s),
        _tunnel_dial(raw, raw.forwarder, "forwarder", timeout_s),
    )


_LEGS = {Role.CLIENT: _client, Role.SERVER: _server, Role.RELAY: _relay}


def _tunnel_listen(raw: RawFile, options: Options, section: str, timeout_s: int) -> LegConfig:
    return LegConfig(
        kind=LegKind.TUNNEL,
        action=Action.LISTEN,
        section=section,
        addresses=_usable(options, "listen_on"),
        ports=options.ports("listen_port").numbers,
        fib=options.get("fib_ingress", int),
        max_links=options.get("max_links", int) or 65536,
        answer_wrong_clock=options.get("answer_wrong_clock", bool) is not False,
        speedtest=options.get("speedtest", bool) is not False,
        users_bps=options.get("users_bandwidth", int) or 0,
        users=raw.users.get(options.get("users", str) or "", ()),
        stun_server=options.get("stun_server", str) or "",
        update_ipv4=_program(options, "update_ipv4"),
        update_ipv6=_program(options, "update_ipv6"),
        **_tunnel(raw, options),
        **(_common(options) | {"udp_timeout_s": timeout_s}),
    )


def _tunnel_dial(raw: RawFile, options: Options, section: str, timeout_s: int) -> LegConfig:
    refresh_s, paths = options.get("dport_refresh", int), options.get("mux_tunnels", int)
    return LegConfig(
        kind=LegKind.TUNNEL,
        action=Action.DIAL,
        section=section,
        addresses=_usable(options, "destination_address"),
        ports=options.ports("destination_port").numbers,
        dnstxt=options.get("destination_dnstxt", str) or "",
        servers=options.get("destination_is", str) == "servers",
        dial_timeout_s=options.get("dial_timeout", int) or DIAL_TIMEOUT_DEFAULT_S,
        fib=options.get("fib_egress", int),
        server_key=options.get("server_key", bytes) or b"",
        dport_refresh_s=_default_refresh(options) if refresh_s is None else refresh_s,
        mux_tunnels=_default_paths(options) if paths is None else paths,
        **_tunnel(raw, options),
        **(_common(options) | {"udp_timeout_s": timeout_s}),
    )


def _default_paths(options: Options) -> int:
    """1; 0 with kcptube's protocol, whose flows have a window of their own only on a path of their own."""
    return 0 if is_kcptube(options) else 1


def _default_refresh(options: Options) -> int:
    """0 with kcptun's protocol, which cannot move flows to another port."""
    return 0 if is_kcptun(options) else 60


def _program(options: Options, name: str) -> str:
    """Its absolute path, so that it is not searched for, and stays the same after a change of directory."""
    path = options.get(name, str)
    return os.path.abspath(path) if path else ""


def _common(options: Options) -> Fields:
    """Fields of every leg."""
    return {
        "ipv4_only": options.flag("ipv4_only"),
        "ipv6_only": options.flag("ipv6_only"),
        "udp_timeout_s": _timeout(options),
        "udp_delivery": options.get("udp_delivery", UdpDelivery) or UdpDelivery.UNORDERED,
    }


def _tunnel(raw: RawFile, options: Options) -> Fields:
    """Fields of every tunnel leg."""
    password, key = secret(raw, options)
    private = private_key(raw, options)
    strong = "aes" if is_kcptun(options) else "AES-GCM"
    return {
        "dialect": options.get("dialect", Dialect) or Dialect.NATIVE,
        "algorithm": options.get("encryption_algorithm", str)
        or (strong if password or key or private else "none"),
        "password": password,
        "key": key,
        "private_key": private,
        "reads": tuple(
            raw.base / name for key in _FILES if (name := options.get(key, str)) and name[:1] != "$"
        ),
        "mtu_bytes": options.get("mtu", int),
        "kcp_mtu_bytes": options.get("kcp_mtu", int),
        "keep_alive_s": options.get("keep_alive", int) or 0,
        "dscp": options.get("dscp", int) or 0,
        "device": options.get("bind_device", str) or "",
        "fwmark": options.get("fwmark", int) or 0,
        "fec": _fec(options),
        "outbound_bps": options.get("outbound_bandwidth", int) or 0,
        "inbound_bps": options.get("inbound_bandwidth", int) or 0,
        "blast": options.flag("blast"),
        "nocomp": options.flag("nocomp"),
        "smuxver": options.get("smuxver", int) or 1,
        "smuxbuf_bytes": options.get("smuxbuf", int) or 4 << 20,
        "streambuf_bytes": options.get("streambuf", int) or 2 << 20,
        "framesize_bytes": options.get("framesize", int) or 8192,
        "scavengettl_s": options.get("scavengettl", int) or 600,
        **_kcp(options),
    }


def _fec(options: Options) -> FecConfig | None:
    """auto with kcp=auto, which measures rate and windows as well; otherwise what the file says."""
    if options.given("fec"):
        return options.get("fec", FecConfig)
    if options.get("kcp", str) != presets.AUTO or is_kcptube(options) or is_kcptun(options):
        return None
    return FecConfig(auto=True, data_shards=0, parity_shards=0)


def secret(raw: RawFile, options: Options) -> tuple[bytes, bytes | None]:
    """(password, key): at most one of them is not empty."""
    file = options.get("encryption_password_file", str)
    password = raw.passwords.get(file, b"") if file else options.get("encryption_password", bytes) or b""
    return password, options.get("encryption_key", bytes)


def _kcp(options: Options) -> Fields:
    name = options.get("kcp", str) or presets.DEFAULT
    if name == presets.MANUAL:
        row = presets.Preset(
            nodelay=options.get("kcp_nodelay", int) or 0,
            interval_ms=options.get("kcp_interval", int) or 0,
            resend=options.get("kcp_resend", int) or 0,
            nc=options.flag("kcp_nc"),
            wnd_segments=presets.MANUAL_WND_SEGMENTS,
        )
    else:
        row = presets.PRESETS[name]
    return {
        "kcp": name,
        "kcp_auto": name == presets.AUTO,
        "kcp_nodelay": row.nodelay,
        "kcp_interval_ms": row.interval_ms,
        "kcp_resend": row.resend,
        "kcp_nc": row.nc,
        "kcp_snd_wnd_segments": options.get("kcp_sndwnd", int) or row.wnd_segments,
        "kcp_rcv_wnd_segments": options.get("kcp_rcvwnd", int) or row.wnd_segments,
    }


def _timeout(options: Options) -> int:
    return options.get("udp_timeout", int) or UDP_TIMEOUT_DEFAULT_S


def _usable(options: Options, name: str) -> tuple[str, ...]:
    """The addresses of the families that the leg uses."""
    off = 6 if options.flag("ipv4_only") else 4 if options.flag("ipv6_only") else 0
    return tuple(address for address in options.addresses(name).names if version(address) != off)


def _allow_targets(options: Options) -> tuple[AllowRule, ...] | None:
    return options.get("allow_targets", tuple)


def _mappings(raw: RawFile) -> tuple[Mapping, ...]:
    """One entry per port and target; TCP and UDP together where they agree."""
    merged: dict[tuple[str, int, str, int], tuple[bool, bool]] = {}
    for (address, port, protocol), found in raw.mappings.items():
        entry = (address, port, found.mapping.target_address, found.mapping.target_port)
        tcp, udp = merged.get(entry, (False, False))
        merged[entry] = (tcp or protocol == "tcp", udp or protocol == "udp")
    return tuple(Mapping(*entry, tcp=tcp, udp=udp) for entry, (tcp, udp) in merged.items())
