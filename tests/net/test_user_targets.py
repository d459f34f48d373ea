"""Which targets a server's users may choose."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from kcpg.app.config.addresses import allow_list
from kcpg.core.flow import TCP, Open, Reset, ResetCode, Target
from kcpg.net import addr
from kcpg.net.allow import AllowList
from kcpg.net.local import LocalDialer, LocalDialSettings
from kcpg.net.resolve import Answer, Resolver

ANN = {"ann": AllowList(allow_list("*.example,*.com", []))}


class Here(Resolver):
    """Every name leads to this machine."""

    def resolve(
        self,
        host: str,
        port: int,
        answer: Callable[[Answer], None],
        family: int = 0,
        max_age_ms: int | None = None,
        asker: Hashable = None,
    ) -> None:
        answer([addr.pack("127.0.0.1", port)])


def refuses(host: str, user: str, node: AllowList | None = None, target: Target | None = None) -> bool:
    """Whether a flow of this user to port 9 of a host is forbidden."""
    leg = LocalDialer(LocalDialSettings(target, any_target=target is None, allow=node, timeout_ms=1), Here())
    leg.users = ANN
    request = Open(TCP, Target(host, 9), "here")
    request.user = user
    flow = leg.dial(request, 0)
    if isinstance(flow, Reset):
        return flow.code is ResetCode.FORBIDDEN
    flow.reset(Reset(ResetCode.SHUTDOWN))
    return False


def test_a_user_may_choose_what_both_the_node_and_his_own_rules_permit() -> None:
    node = AllowList(allow_list("*.example,*.org", []))
    hosts = ("a.example", "a.org", "a.com")
    permitted = [
        (user, host) for user in ("ann", "ben", "") for host in hosts if not refuses(host, user, node)
    ]
    assert permitted == [
        ("ann", "a.example"), ("ben", "a.example"), ("ben", "a.org"), ("", "a.example"), ("", "a.org")
    ]  # fmt: skip


def test_a_node_without_rules_leaves_the_users() -> None:
    assert not refuses("x.com", "ann") and refuses("x.org", "ann") and not refuses("x.org", "ben")


def test_the_configured_target_is_everybodys() -> None:
    assert not refuses("127.0.0.1", "ann", target=Target("127.0.0.1", 9))
