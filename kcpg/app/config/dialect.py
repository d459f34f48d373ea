"""Checks for `dialect=kcptube`: settings that kcptube's protocol does not support."""

from __future__ import annotations

from kcpg.app.config import presets
from kcpg.app.config.model import Dialect, FecConfig, Role, UdpDelivery
from kcpg.app.config.raw import Options, RawFile
from kcpg.app.config.report import Report

DATAGRAM_MOST_BYTES = 2048  # kcptube's receive buffer: it truncates longer datagrams

_NATIVE = "only the native protocol supports it"


def is_kcptube(options: Options | None) -> bool:
    """Whether a tunnel leg speaks kcptube's protocol."""
    return options is not None and options.get("dialect", Dialect) is Dialect.KCPTUBE


def check_dialect(options: Options, report: Report) -> None:
    """Check the values of a tunnel leg that kcptube does not understand."""
    if not is_kcptube(options):
        return
    _check_secret(options, report)
    if options.get("kcp", str) == presets.AUTO:
        hint = f"{_NATIVE}; use kcp=regular3 or kcp=fast3"
        report.error(options.line("kcp"), "kcp", "auto does not work with dialect=kcptube", hint)
    fec = options.get("fec", FecConfig)
    if fec is not None and fec.auto:
        hint = f"{_NATIVE}; set D:R, the same at both ends"
        report.error(options.line("fec"), "fec", "auto does not work with dialect=kcptube", hint)
    delivery = options.get("udp_delivery", UdpDelivery)
    if delivery not in (None, UdpDelivery.ORDERED):
        reason = "has no effect with dialect=kcptube: packets arrive in order, a lost one holds up the next"
        report.warning(options.line("udp_delivery"), "udp_delivery", reason)
    size = options.get("kcp_mtu", int) or options.get("mtu", int) or 0
    if size > DATAGRAM_MOST_BYTES:
        name = "kcp_mtu" if options.get("kcp_mtu", int) else "mtu"
        reason = (
            f"kcptube accepts at most {DATAGRAM_MOST_BYTES} bytes per datagram; kcpg sends no larger ones"
        )
        report.warning(options.line(name), name, reason)


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
    """Refuse several workers where kcptube's datagrams arrive: they do not say which worker has their
    link."""
    if (raw.outside.get("workers", int) or 1) == 1:
        return
    listens = raw.listener if raw.role is Role.RELAY else raw.outside if raw.role is Role.SERVER else None
    if is_kcptube(listens):
        reason = "a node that listens with dialect=kcptube can have only one worker"
        report.error(raw.outside.line("workers"), "workers", reason, "set workers=1")
