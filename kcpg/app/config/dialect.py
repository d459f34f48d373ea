"""Checks for `dialect=kcptube` and `dialect=kcptun`: settings that these protocols do not support."""

from __future__ import annotations

from kcpg.app.config import presets
from kcpg.app.config.model import Dialect, FecConfig, Role, UdpDelivery
from kcpg.app.config.raw import Options, RawFile
from kcpg.app.config.report import Report
from kcpg.app.config.values import KCPTUN_ALGORITHMS

DATAGRAM_MOST_BYTES = 2048  # kcptube's receive buffer: it truncates longer datagrams
KCPTUN_MOST_BYTES = 1500  # kcptun's
KCPTUN_KEEP_ALIVE_S = 30  # A kcptun gives a peer up that is silent for longer

_NATIVE = "only the native protocol supports it"
_KCPTUN_KEYS = ("nocomp", "smuxver", "smuxbuf", "streambuf", "framesize", "scavengettl")
_SLOW = ("tea", "xtea", "twofish")


def is_kcptube(options: Options | None) -> bool:
    """Whether a tunnel leg speaks kcptube's protocol."""
    return options is not None and options.get("dialect", Dialect) is Dialect.KCPTUBE


def is_kcptun(options: Options | None) -> bool:
    """Whether a tunnel leg speaks kcptun's protocol."""
    return options is not None and options.get("dialect", Dialect) is Dialect.KCPTUN


def check_dialect(options: Options, report: Report) -> None:
    """Check the values of a tunnel leg that its protocol does not understand."""
    if is_kcptun(options):
        _check_kcptun(options, report)
        return
    for name in _KCPTUN_KEYS:
        if options.given(name):
            report.warning(options.line(name), name, "has an effect only with dialect=kcptun")
    algorithm = options.get("encryption_algorithm", str)
    if algorithm in KCPTUN_ALGORITHMS:
        line = options.line("encryption_algorithm")
        reason = f"{algorithm} works only with dialect=kcptun"
        report.error(line, "encryption_algorithm", reason, "use AES-GCM, or set dialect=kcptun")
    if is_kcptube(options):
        _check_kcptube(options, report)


def _check_measured(options: Options, report: Report, dialect: str) -> None:
    """What only the native protocol measures."""
    if options.get("kcp", str) == presets.AUTO:
        hint = f"{_NATIVE}; use kcp=regular3 or kcp=fast3"
        report.error(options.line("kcp"), "kcp", f"auto does not work with dialect={dialect}", hint)
    fec = options.get("fec", FecConfig)
    if fec is not None and fec.auto:
        hint = f"{_NATIVE}; set D:R" + (", the same at both ends" if dialect == "kcptube" else "")
        report.error(options.line("fec"), "fec", f"auto does not work with dialect={dialect}", hint)


def _check_size(options: Options, report: Report, dialect: str, most_bytes: int) -> None:
    size = options.get("kcp_mtu", int) or options.get("mtu", int) or 0
    if size > most_bytes:
        name = "kcp_mtu" if options.get("kcp_mtu", int) else "mtu"
        reason = f"{dialect} accepts at most {most_bytes} bytes per datagram; kcpg sends no larger ones"
        report.warning(options.line(name), name, reason)


def _check_kcptube(options: Options, report: Report) -> None:
    _check_secret(options, report)
    _check_measured(options, report, "kcptube")
    delivery = options.get("udp_delivery", UdpDelivery)
    if delivery not in (None, UdpDelivery.ORDERED):
        reason = "has no effect with dialect=kcptube: packets arrive in order, a lost one holds up the next"
        report.warning(options.line("udp_delivery"), "udp_delivery", reason)
    _check_size(options, report, "kcptube", DATAGRAM_MOST_BYTES)


def _check_kcptun(options: Options, report: Report) -> None:
    _check_measured(options, report, "kcptun")
    _check_size(options, report, "kcptun", KCPTUN_MOST_BYTES)
    if options.given("encryption_key"):
        reason = "does not work with dialect=kcptun, which has passwords only"
        report.error(options.line("encryption_key"), "encryption_key", reason, "set encryption_password")
    algorithm = options.get("encryption_algorithm", str)
    line = options.line("encryption_algorithm")
    if algorithm in _SLOW:
        reason = f"{algorithm} takes some milliseconds of processor time for a datagram here"
        report.warning(line, "encryption_algorithm", reason, "use aes or aes-128-gcm at both ends")
    elif algorithm not in (None, "none", "XOR", *KCPTUN_ALGORITHMS):
        reason = f"kcptun does not know {algorithm}"
        report.error(
            line, "encryption_algorithm", reason, "use aes, or aes-128-gcm with a kcptun of 2025-12 or later"
        )
    if options.ports("destination_port").custom or options.addresses("destination_address").custom:
        name = "destination_port" if options.ports("destination_port").custom else "destination_address"
        reason = "{} does not work with dialect=kcptun, whose clients cannot name a target"
        report.error(options.line(name), name, reason, "set the target's address and port")
    if options.ports("listen_port").custom or options.addresses("listen_on").custom:
        name = "listen_port" if options.ports("listen_port").custom else "listen_on"
        reason = "mappings do not work with dialect=kcptun, whose clients cannot name a target"
        report.error(options.line(name), name, reason, "set listen_port to one port")
    if options.given("socks_port"):
        reason = "does not work with dialect=kcptun, whose clients cannot name a target"
        report.error(options.line("socks_port"), "socks_port", reason, "set listen_port")
    keep_alive_s = options.get("keep_alive", int) or 0
    if keep_alive_s > KCPTUN_KEEP_ALIVE_S:
        reason = f"a kcptun gives up a peer that is silent for {KCPTUN_KEEP_ALIVE_S} s; kcpg uses that"
        report.warning(options.line("keep_alive"), "keep_alive", reason)


def _check_secret(options: Options, report: Report) -> None:
    if options.given("encryption_key"):
        reason = "does not work with dialect=kcptube, which has passwords only"
        report.error(options.line("encryption_key"), "encryption_key", reason, "set encryption_password")
    elif not options.given("encryption_algorithm"):
        for name in ("encryption_password", "encryption_password_file"):
            if options.given(name):
                reason = (
                    "encryption_algorithm is not set: kcptube then encrypts nothing, despite the password"
                )
                hint = "set encryption_algorithm=AES-GCM at both ends"
                report.error(options.line(name), name, reason, hint)


def check_workers(raw: RawFile, report: Report) -> None:
    """Refuse several workers where datagrams arrive that do not say which worker has their link."""
    if (raw.outside.get("workers", int) or 1) == 1:
        return
    listens = raw.listener if raw.role is Role.RELAY else raw.outside if raw.role is Role.SERVER else None
    if is_kcptube(listens) or is_kcptun(listens):
        dialect = "kcptube" if is_kcptube(listens) else "kcptun"
        reason = f"a node that listens with dialect={dialect} can have only one worker"
        report.error(raw.outside.line("workers"), "workers", reason, "set workers=1")
