"""Which nodes an edited configuration touches."""

from __future__ import annotations

from dataclasses import replace

from kcpg.app.config import load_text
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
