"""What the processes of one node have in common: their share of its limits, and one status."""

from __future__ import annotations

from dataclasses import replace

from kcpg.app import status_report
from kcpg.app.config import load_text
from kcpg.app.workers.context import worker_config
from kcpg.app.workers.merge import merge
from kcpg.net.handover import Tally, make_tally
from tests.unit.test_legsettings import CLIENT, SERVER


def node(text: str, more: str = ""):
    loaded = load_text("a.conf", text + more)
    assert loaded.ok, loaded.problems
    return loaded.nodes[0]


def test_auto_is_the_number_of_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(5)))
    assert node(SERVER, "workers=auto\n").workers == 5
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(500)))
    assert node(SERVER, "workers=AUTO\n").workers == 64


def test_a_number_that_cannot_be_is_refused():
    for wrong in ("0", "65", "many"):
        assert not load_text("a.conf", SERVER + f"workers={wrong}\n").ok


def test_a_dialer_divides_its_bandwidths():
    """It has a link in every process; together they may send what was configured."""
    config = node(CLIENT, "workers=3\nmax_flows=10\n")
    one = worker_config(config, 3)
    assert one.max_flows == 4
    assert one.egress.outbound_bps * 3 >= config.egress.outbound_bps > 0
    assert one.egress.outbound_bps < config.egress.outbound_bps
    assert one.egress.inbound_bps < config.egress.inbound_bps


def test_a_listener_does_not():
    """Its bandwidths are those of one link, whichever process has it."""
    config = node(SERVER, "workers=3\nmax_flows=9\n")
    worker = worker_config(config, 3)
    assert worker.ingress == replace(config.ingress, max_links=21846) and worker.max_flows == 3
    assert worker_config(replace(config, memory_bytes=3 << 20), 3).memory_bytes == 1 << 20


def leg(**more: object) -> dict[str, object]:
    common = {"kind": "tunnel", "action": "listen", "section": "", "where": "*:3000", "algorithm": "AES-GCM"}
    return {**common, "link_count": 1, "counters": {"strangers": 2}, "drops": {}, "links": [], **more}


def snapshot(worker: int) -> dict[str, object]:
    return {
        "name": "office",
        "role": "server",
        "file": "office.conf",
        "uptime_s": 5.0 + worker,
        "flows": {"tcp": 1, "udp": 0, "opened": 7, "refused": 0, "reset": 0},
        "socket_errors": {} if worker else {"refused": 1},
        "public_addresses": [] if worker else ["192.0.2.1:3000"],
        "ingress": leg(drops={"auth": 1, f"only_{worker}": 1}, links=[{"peer": f"p{worker}"}]),
        "egress": {"kind": "local", "action": "dial", "section": "", "where": "127.0.0.1:80"},
        "flow_list": [{"kind": "tcp"}],
    }


def test_one_status_of_all_workers():
    whole = merge({1: snapshot(1), 0: snapshot(0)})
    assert whole["uptime_s"] == 6.0
    assert whole["flows"] == {"tcp": 2, "udp": 0, "opened": 14, "refused": 0, "reset": 0}
    assert whole["ingress"]["link_count"] == 2 and whole["ingress"]["counters"] == {"strangers": 4}
    assert whole["ingress"]["drops"] == {"auth": 2, "only_0": 1, "only_1": 1}
    assert whole["ingress"]["links"] == [{"worker": 0, "peer": "p0"}, {"worker": 1, "peer": "p1"}]
    assert whole["flow_list"] == [{"worker": 0, "kind": "tcp"}, {"worker": 1, "kind": "tcp"}]
    assert whole["socket_errors"] == {"refused": 1}
    assert whole["public_addresses"] == ["192.0.2.1:3000"]
    assert whole["ingress"]["where"] == "*:3000" and whole["egress"] == snapshot(0)["egress"]


def test_merging_changes_nothing_that_it_is_given():
    one, other = snapshot(0), snapshot(1)
    merge({0: one, 1: other})
    assert (one, other) == (snapshot(0), snapshot(1))


def test_the_page_has_a_line_for_each_worker():
    rows = [
        {"worker": 0, "pid": 17, "up": True, "starts": 1, "uptime_s": 5.0, "flows": {"tcp": 1, "udp": 0},
         "link_count": 1, "handed_over": 3},
        {"worker": 1, "pid": 0, "up": False, "starts": 2, "uptime_s": 0.0, "flows": {"tcp": 0, "udp": 0},
         "link_count": 0, "handed_over": 0},
    ]  # fmt: skip
    found = {**merge({0: snapshot(0)}), "workers": rows}
    found["ingress"]["links"] = []
    page = "\n".join(status_report.node_lines(found))
    assert "worker 0: pid 17, up 5 s, 1 TCP and 0 UDP flows, 1 links, 3 datagrams handed over" in page
    assert "worker 1: down, started 2 times" in page


def test_a_node_whose_workers_are_all_down_has_a_page():
    identity = {"name": "office", "role": "server", "file": "office.conf"}
    assert "0 TCP, 0 UDP now" in status_report.node_lines({**identity, "workers": []})[1]


def test_who_gets_one_more_link():
    tally = Tally(make_tally())
    assert tally.choose(0, [1, 2]) == 0, "a tie stays where it is"
    tally.put(0, 1)
    assert tally.choose(0, [1, 2]) == 1 and tally.choose(1, [0, 2]) == 1
    assert tally.choose(0, []) == 0
    for worker, count in enumerate((100, 90, 95)):
        tally.put(worker, count)
    assert tally.choose(0, [1, 2]) == 0, "not worth the trouble"
    tally.put(0, 110)
    assert tally.choose(0, [1, 2]) == 1
    tally.close()
