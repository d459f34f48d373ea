"""Which nodes an edited configuration touches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kcpg.app import reload
from kcpg.app.config import load_text
from kcpg.app.config.model import Loaded, NodeConfig, UserConfig
from kcpg.app.reload import Plan, compare
from tests.unit.test_legsettings import CLIENT, SERVER

A, B = (load_text(name, text).nodes[0] for name, text in (("a.conf", CLIENT), ("b.conf", SERVER)))


def test_nothing_changed():
    assert compare([A, B], [A, B]) == Plan({0: 0, 1: 1}, (), ())


def test_the_same_text_read_twice_is_the_same():
    assert compare([A], [load_text("a.conf", CLIENT).nodes[0]]) == Plan({0: 0}, (), ())


def test_order_of_the_files_does_not_matter():
    assert compare([A, B], [B, A]) == Plan({0: 1, 1: 0}, (), ())


def test_one_edited_one_new_one_gone():
    edited = replace(A, ingress=replace(A.ingress, ports=(1,)))
    assert compare([A, B], [edited, B]) == Plan({1: 1}, (0,), (0,))
    assert compare([A], [A, B]) == Plan({0: 0}, (1,), ())
    assert compare([A, B], [B]) == Plan({0: 1}, (), (0,))


def test_a_new_password_is_a_change():
    edited = replace(A, egress=replace(A.egress, password=b"other"))
    assert compare([A], [edited]) == Plan({}, (0,), (0,))


def test_twins_are_paired_one_by_one():
    assert compare([A, A], [A]) == Plan({0: 0}, (), (1,))


USERS = tuple(UserConfig(name, bytes([n]) * 32) for n, name in enumerate(("ann", "ben", "carl")))


class _Node:
    """A running node, as far as a reload looks at it."""

    closed = False

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.told: list[NodeConfig] = []

    def set_users(self, config: NodeConfig) -> None:
        self.config = config
        self.told.append(config)


def with_users(*users: UserConfig) -> NodeConfig:
    return replace(B, ingress=replace(B.ingress, users=users))


def test_other_users_are_given_to_the_node_that_goes_on(monkeypatch):
    node: Any = _Node(with_users(USERS[0], USERS[1]))
    after = with_users(replace(USERS[0], disabled=True), USERS[2])
    assert compare([node.config], [after]) == Plan({0: 0}, (), ())
    monkeypatch.setattr(reload, "read", lambda files: Loaded((after,), ()))
    applied = reload.apply([], [node], "text")
    assert applied.ok and applied.nodes == [node] and node.told == [after]
    assert applied.text == "reread the configuration: users added: carl; removed: ben; changed: ann"
    again = reload.apply([], [node], "text")
    assert again.text == "reread the configuration: nothing has changed" and len(node.told) == 1


def test_a_line_names_a_few_users(monkeypatch):
    node: Any = _Node(with_users())
    many = with_users(*(UserConfig(f"u{n}", bytes([n]) * 32) for n in range(12)))
    monkeypatch.setattr(reload, "read", lambda files: Loaded((many,), ()))
    text = reload.apply([], [node], "text").text
    assert text.endswith("users added: u0, u1, u2, u3, u4, u5, u6, u7, u8, u9 and 2 more")
