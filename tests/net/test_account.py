"""The account of a running node: written while it carries, quotas, and a disk that takes nothing."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gevent
import gevent.socket
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kcpg.app import account, accountbook, usagereport
from kcpg.app.config import load
from kcpg.app.config.model import NodeConfig, Quota
from kcpg.app.prometheus import ReportCollector
from kcpg.app.run import RunningNode, derive_keys
from kcpg.app.workers.merge import merge
from kcpg.core.native.handshake.noise import PrivateKey
from tests.net import processes
from tests.net.sockets import until

KEYS = {name: base64.b64encode(name.encode() * 32).decode() for name in "las"}
PUBLIC = {name: base64.b64encode(PrivateKey(name.encode() * 32).public).decode() for name in "las"}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KCPG_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(account, "FLUSH_S", 0.05)


class Pair:
    """A server with the users ann and sue, ann's client, and a target that sends back what it gets."""

    def __init__(self, directory: Path, target: int, ann: str = "") -> None:
        (tunnel, self.listen) = processes.free_ports(2)
        files = {
            "users": f"[ann]\npublic_key={PUBLIC['a']}\n{ann}\n[sue]\npublic_key={PUBLIC['s']}\n",
            "server.conf": f"mode=server\nlisten_on=127.0.0.1\nlisten_port={tunnel}\nusers=users\n"
            f"destination_address=127.0.0.1\ndestination_port={target}\nprivate_key={KEYS['l']}\n",
            "client.conf": f"mode=client\nlisten_on=127.0.0.1\nlisten_port={self.listen}\n"
            f"destination_address=127.0.0.1\ndestination_port={tunnel}\n"
            f"private_key={KEYS['a']}\nserver_key={PUBLIC['l']}\n",
        }
        for name, text in files.items():
            (directory / name).write_text(text)
        loaded = load([directory / "server.conf", directory / "client.conf"])
        assert loaded.ok, loaded.problems
        self.server, self.client = (
            RunningNode(config, derive_keys([config]), "text") for config in loaded.nodes
        )
        for node in (self.server, self.client):
            node.start()

    @property
    def config(self) -> NodeConfig:
        return self.server.config

    def set_quota(self, limit_bytes: int) -> None:
        """As by a reload."""
        ann, sue = self.config.ingress.users
        users = (replace(ann, quota=Quota(limit_bytes, "month")), sue)
        self.server.set_users(replace(self.config, ingress=replace(self.config.ingress, users=users)))

    def carry(self, size: int) -> int:
        """Bytes that came back."""
        with (
            gevent.Timeout(processes.PATIENCE_S),
            gevent.socket.create_connection(("127.0.0.1", self.listen)) as app,
        ):
            sending = gevent.spawn(app.sendall, bytes(size))
            got = 0
            try:
                while got < size and (data := app.recv(1 << 16)):
                    got += len(data)
            except OSError:
                pass
            sending.kill()
            return got

    def rows(self) -> dict[str, accountbook.Row]:
        file = accountbook.find_directory({"KCPG_STATE_DIR": str(self.config.file.parent / "state")})
        book = accountbook.Book(file / accountbook.FILE, self.config.file)
        try:
            return {row.user: row for row in book.rows()}
        finally:
            book.close()

    def close(self) -> None:
        for node in (self.client, self.server):
            node.close("end of the test")


@pytest.fixture
def target() -> Iterator[int]:
    with processes.echo() as port:
        yield port


def test_what_a_user_carries_is_counted_while_and_after(tmp_path: Path, target: int) -> None:
    pair = Pair(tmp_path, target)
    assert pair.carry(300_000) == 300_000
    until(lambda: "ann" in pair.rows() and pair.rows()["ann"].rx_bytes > 300_000, "the account", 10)
    pair.close()
    row = pair.rows()["ann"]
    assert 300_000 < row.rx_bytes < 400_000 and 300_000 < row.tx_bytes < 400_000
    assert row.links == 1 and row.rx_datagrams > 30 and row.seconds > 0 and row.last_seen > 1_700_000_000
    (before,) = pair.rows().values()
    again = Pair(tmp_path, target)
    assert again.carry(100_000) == 100_000
    again.close()
    after = again.rows()["ann"]
    assert after.links == 2 and after.rx_bytes - before.rx_bytes > 100_000


def test_a_quota_ends_his_links_and_a_larger_one_lets_him_in(tmp_path: Path, target: int) -> None:
    pair = Pair(tmp_path, target, "quota=1m/month")
    assert pair.carry(200_000) == 200_000
    leg = pair.server.node.ingress if pair.server.node is not None else None
    assert leg is not None
    pair.carry(1_500_000)
    until(lambda: not leg.links, "his links to end", 10)  # type: ignore[attr-defined]
    gevent.sleep(0)
    assert not leg.links  # type: ignore[attr-defined]
    pair.set_quota(1 << 40)
    until(lambda: leg.links, "him to come back", processes.PATIENCE_S)  # type: ignore[attr-defined]
    assert pair.carry(100_000) == 100_000
    pair.close()


def test_who_has_used_his_quota_up_before_a_restart_stays_out(tmp_path: Path, target: int) -> None:
    pair = Pair(tmp_path, target, "quota=100k/month")
    pair.carry(200_000)
    pair.close()
    again = Pair(tmp_path, target, "quota=100k/month")
    assert again.server.node is not None
    leg = again.server.node.ingress
    until(lambda: leg.handshake_drops.get("handshake_user", 0) > 1, "him to be refused", 10)  # type: ignore[attr-defined]
    assert not leg.links  # type: ignore[attr-defined]
    again.close()


def test_a_full_disk_stops_no_traffic_and_nothing_is_lost(
    tmp_path: Path, target: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(tmp_path, target)
    full = [True]
    add = accountbook.Book.add

    def fails(self: accountbook.Book, *words: object) -> None:
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        add(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(accountbook.Book, "add", fails)
    assert pair.carry(300_000) == 300_000
    until(lambda: "cannot write the account" in caplog.text, "the line in the log", 10)
    assert pair.carry(100_000) == 100_000
    assert not pair.rows()
    full[0] = False
    until(lambda: "ann" in pair.rows() and pair.rows()["ann"].rx_bytes > 400_000, "the account", 10)
    pair.close()
    assert pair.rows()["ann"].rx_bytes < 550_000, "nothing is counted twice"


def test_a_report(tmp_path: Path, target: int) -> None:
    pair = Pair(tmp_path, target, "quota=1g/month")
    pair.carry(100_000)
    pair.close()
    now_s = pair.rows()["ann"].last_seen
    users = pair.config.ingress.users

    def told(form: str, name: str = "") -> str:
        return usagereport.report(pair.config.file, users, name, form, now_s)

    text = told("text").splitlines()
    assert text[0].split()[:3] == ["user", "received", "sent"] and len(text) == 3
    assert text[1].startswith("ann") and "0% of 1.0 GB" in text[1]
    assert text[2].startswith("sue") and text[2].endswith("never")
    ann, sue = json.loads(told("json"))
    assert ann["user"] == "ann" and ann["quota_bytes"] == 10**9 and ann["rx_bytes"] > 100_000
    assert ann["month_bytes"] == ann["rx_bytes"] + ann["tx_bytes"] == ann["quota_used_bytes"]
    assert sue["rx_bytes"] == 0 and sue["quota_bytes"] is None
    lines = told("csv").splitlines()
    assert lines[0].startswith("user,rx_bytes,tx_bytes,") and lines[1].startswith("ann,") and len(lines) == 3
    assert told("csv", "ann").splitlines() == lines[:2]


def test_users_with_links_are_in_the_status_and_the_metrics(tmp_path: Path, target: int) -> None:
    pair = Pair(tmp_path, target)
    pair.carry(100_000)
    node = pair.server.snapshot()
    (row,) = node["ingress"]["users"]
    assert (row["name"], row["links"]) == ("ann", 1) and row["rx_bytes"] > 100_000
    page = (processes.ROOT / "docs" / "status.md").read_text("utf-8")
    assert all(f"`users[].{field}`" in page for field in row)
    assert node["ingress"]["links"][0]["user"] == "ann"
    merged = merge({0: node, 1: node})
    registry = CollectorRegistry(auto_describe=False)
    report = {
        "nodes": [merged], "version": "", "engine": "", "uptime_s": 0, "reload": {"count": 0, "ok": True}
    }  # fmt: skip
    registry.register(ReportCollector(lambda: report))
    text = generate_latest(registry).decode()
    assert 'kcpg_user_links{node="server",user="ann"} 2.0' in text, "the links of two workers"
    received = re.search(r'kcpg_user_link_bytes\{direction="in",node="server",user="ann"\} (\S+)', text)
    assert received is not None and float(received[1]) == 2 * row["rx_bytes"]
    pair.close()
