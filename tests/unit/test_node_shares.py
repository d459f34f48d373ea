"""How many of a node's flows one link may have."""

from __future__ import annotations

from typing import Any

from kcpg.core.flow import TCP, Flow, Open, Reset, ResetCode
from kcpg.core.node import SHARE_OF_LEFT, Node, NodeSettings


class End(Flow):
    """A flow that waits to be opened, and ends when it is told to."""

    def __init__(self) -> None:
        super().__init__(TCP)
        self.opening = True
        self.reason: Reset | None = None

    def reset(self, reason: Reset) -> None:
        self.reason, self.closed = reason, True


class Leg:
    """Either leg."""

    on_flow: Any

    def start(self, now_ms: int) -> None: ...

    def dial(self, request: Open, now_ms: int) -> Flow:
        return End()


def come(node: Node, asker: object) -> End:
    """A flow from this link."""
    request, flow = Open(TCP, None, "somebody"), End()
    request.asker = asker
    node.ingress.on_flow(flow, request, 0)
    return flow


def test_a_greedy_link_leaves_others_their_flows() -> None:
    node = Node(Leg(), Leg(), NodeSettings(max_flows=400))  # type: ignore[arg-type]
    greedy = [come(node, "greedy") for _ in range(1000)]
    assert (
        sum(flow.reason is None for flow in greedy)
        == node.flows
        == 400 * SHARE_OF_LEFT // (SHARE_OF_LEFT + 1)
    )
    refused = greedy[-1].reason
    assert refused is not None and refused.code is ResetCode.REFUSED and "share" in refused.text
    assert [come(node, "other").reason for _ in range(50)] == [None] * 50
    for splice in list(node.splices)[:200]:
        splice.abort(Reset(ResetCode.SHUTDOWN))
    assert come(node, "greedy").reason is None, "what ended is free again"
    for splice in list(node.splices):
        splice.abort(Reset(ResetCode.SHUTDOWN))
    assert node.flows == 0 and come(node, "greedy").reason is None


def test_the_applications_of_this_machine_have_them_all() -> None:
    node = Node(Leg(), Leg(), NodeSettings(max_flows=400))  # type: ignore[arg-type]
    flows = [come(node, None) for _ in range(401)]
    assert [flow.reason is None for flow in flows] == [True] * 400 + [False]
