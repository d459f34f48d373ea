"""kcpg as a plug-in of shadowsocks."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kcpg.app import sip003
from kcpg.app.config import load
from kcpg.app.config.model import Role
from kcpg.errors import KcpgError

ENVIRON = {
    "SS_REMOTE_HOST": "192.0.2.1",
    "SS_REMOTE_PORT": "29900",
    "SS_LOCAL_HOST": "127.0.0.1",
    "SS_LOCAL_PORT": "40001",
}


def test_when_it_is_one() -> None:
    assert sip003.is_plugin(ENVIRON)
    assert not sip003.is_plugin({name: value for name, value in ENVIRON.items() if name != "SS_LOCAL_PORT"})


def test_options() -> None:
    told = r"key=a\;b\=c\\d=e;crypt=aes-128;mtu=1400;nocomp;quiet=false;mode=fast2;;conn=x"
    assert sip003.options_of(ENVIRON | {"SS_PLUGIN_OPTIONS": told}) == {
        "key": r"a;b=c\d=e",
        "crypt": "aes-128",
        "mtu": 1400,
        "nocomp": True,
        "quiet": False,
        "mode": "fast2",
        "conn": "x",
        "localaddr": "127.0.0.1:40001",
        "remoteaddr": "192.0.2.1:29900",
    }


@pytest.mark.parametrize(("more", "role"), [("", Role.CLIENT), (";server", Role.SERVER)])
def test_the_file(tmp_path: Path, more: str, role: Role) -> None:
    environ = ENVIRON | {
        "KCPG_STATE_DIR": str(tmp_path / "state"),
        "SS_REMOTE_HOST": "2001:db8::1",
        "SS_PLUGIN_OPTIONS": f"key=secret;smuxver=2{more}",
    }
    path = sip003.write_file(environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load([path])
    assert loaded.ok, loaded.problems
    (node,) = loaded.nodes
    tunnel = node.egress if role is Role.CLIENT else node.ingress
    assert node.role is role and tunnel.addresses == ("2001:db8::1",) and tunnel.ports == (29900,)
    assert tunnel.is_kcptun and tunnel.password == b"secret"
    assert path == sip003.write_file(environ)


def test_a_port_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(KcpgError, match="port"):
        sip003.write_file(ENVIRON | {"KCPG_STATE_DIR": str(tmp_path), "SS_LOCAL_PORT": "../x"})
