"""Without a guest kernel nothing was verified, and that is never called success."""

from __future__ import annotations

import pytest

from netem import guest
from netem.guest import __main__ as launcher

assert guest.__doc__


@pytest.mark.parametrize(
    ("environment", "installable", "code"),
    [("", True, 77), ("", False, 77), ("true", False, 77), ("true", True, 1)],
)
def test_no_guest_kernel(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: str,
    installable: bool,
    code: int,
) -> None:
    """Continuous integration fails where it could have installed one."""
    monkeypatch.setenv("CI", environment)
    monkeypatch.setattr(launcher, "why_not", lambda: "there is none")
    monkeypatch.setattr(launcher, "installable", lambda: installable)
    assert launcher.main([]) == code
    assert "NOT VERIFIED, there is none" in capsys.readouterr().err
