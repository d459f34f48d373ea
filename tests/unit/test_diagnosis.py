"""Why nobody answers, and how the outcomes of many ports are told."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from kcpg.app import diagnosis
from kcpg.app.config import load_text
from kcpg.app.config.model import Dialect, LegConfig
from kcpg.app.trial import Outcome, summed_up
from tests.net import processes
from tests.unit.config_texts import CLIENT


@pytest.fixture
def leg() -> LegConfig:
    (node,) = load_text("client.conf", CLIENT).nodes
    return replace(node.egress, addresses=("127.0.0.1",), ports=(4000,))


def answering(dialect: Dialect | None) -> tuple[diagnosis.Answers, list[LegConfig]]:
    asked: list[LegConfig] = []

    def answers(config: LegConfig) -> bool:
        asked.append(config)
        return config.dialect is dialect

    return answers, asked


@pytest.mark.parametrize("dialect", [Dialect.KCPTUBE, Dialect.KCPTUN])
def test_another_program_with_the_same_password_is_recognised_and_asked_once(
    leg: LegConfig, dialect: Dialect
) -> None:
    answers, asked = answering(dialect)
    found = diagnosis.Diagnosis(answers)
    text = found.explain(leg)
    assert f"a {dialect.value} answers there with this password: write dialect={dialect.value}" in text
    count = len(asked)
    assert found.explain(replace(leg, ports=(4001,))) == text and len(asked) == count
    assert all(config.password == leg.password for config in asked)


def test_a_key_is_nothing_that_a_kcptube_has(leg: LegConfig) -> None:
    answers, asked = answering(None)
    diagnosis.Diagnosis(answers).explain(replace(leg, password=b"", key=bytes(32)))
    assert asked == []


@pytest.mark.parametrize(
    ("tells", "says"), [(True, "something listens there"), (False, "UDP is blocked on the way")]
)
def test_a_silent_port_of_a_machine_that_tells_closed_ones_is_open(
    leg: LegConfig, monkeypatch: pytest.MonkeyPatch, tells: bool, says: str
) -> None:
    monkeypatch.setattr(diagnosis, "tells_closed_ports", lambda host, port: tells)
    assert says in diagnosis.Diagnosis(answering(None)[0]).explain(leg)
    tube = replace(leg, dialect=Dialect.KCPTUBE)
    assert "clocks" in diagnosis.Diagnosis(answering(None)[0]).explain(tube)


def test_a_closed_port_and_an_open_one_of_this_machine() -> None:
    (closed,) = processes.free_ports(1)
    assert diagnosis.is_closed("127.0.0.1", closed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert not diagnosis.is_closed("127.0.0.1", port)
        assert diagnosis.tells_closed_ports("127.0.0.1", port)


def test_consecutive_ports_with_the_same_result_are_one_line() -> None:
    fine = [
        Outcome("192.0.2.1", port, True, "AES-GCM", float(port - 2990), "round trip 9 ms")
        for port in range(3000, 3005)
    ]
    silent = [Outcome("192.0.2.1", port, False, "no answer") for port in (3005, 3006, 3008)]
    other = Outcome("2001:db8::1", 3009, True, "AES-GCM", 7.0, "round trip 5 ms")
    assert list(summed_up([*fine, *silent, other])) == [
        "192.0.2.1:3000-3004: ok, handshake 10.0 to 14.0 ms, AES-GCM",
        "192.0.2.1:3005-3006: failed, no answer",
        "192.0.2.1:3008: failed, no answer",
        "[2001:db8::1]:3009: ok, handshake 7.0 ms, round trip 5 ms, AES-GCM",
    ]
    assert list(summed_up([])) == []


def test_who_dials_a_kcptun_asks_a_kcptube_with_a_cipher_that_it_has(leg: LegConfig) -> None:
    answers, asked = answering(Dialect.KCPTUBE)
    text = diagnosis.Diagnosis(answers).explain(replace(leg, dialect=Dialect.KCPTUN, algorithm="salsa20"))
    assert [config.algorithm for config in asked] == ["AES-GCM"]
    assert "dialect=kcptube and encryption_algorithm=AES-GCM" in text
