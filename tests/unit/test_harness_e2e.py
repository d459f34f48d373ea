"""Which cases the words of `make e2e` make, and what counts as passed."""

from __future__ import annotations

import random
import shlex
import socket
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("scapy")

from harness import e2e, sets
from harness.case import Outcome, Plan, Skipped, Unsupported, Verdict
from harness.deployment import configurations
from harness.process import Failed
from harness.scenarios import SCENARIOS
from harness.topology import Stage
from harness.workloads.base import CHUNK_BYTES, Damaged, Pattern, Timeline, distribution
from netem import profile as profiles


def plans(*words: str) -> list[Plan]:
    return e2e._plans(e2e._given(words), ci=False)


def test_named_things_make_every_combination() -> None:
    made = plans("PROFILE=mobile,lossy5", "ONLY=bulk", "MODE=server,relay", "WITH=kcp=fast1 mtu=1280")
    assert [(plan.profile, plan.mode) for plan in made] == [
        ("mobile", "server"),
        ("mobile", "relay"),
        ("lossy5", "server"),
        ("lossy5", "relay"),
    ]
    assert all(plan.options == {"kcp": "fast1", "mtu": "1280"} for plan in made)


def test_one_profile_is_measured_in_several_ways() -> None:
    assert [plan.scenario for plan in plans("MODE=relay", "PROFILE=transcontinental")] == [
        "bulk",
        "latency",
        "game",
    ]


def test_all_of_one_thing() -> None:
    made = plans("FULL=1", "ONLY=bulk,dns", "MODE=relay")
    assert {(plan.scenario, plan.mode) for plan in made} == {("bulk", "relay"), ("dns", "relay")}
    assert {plan.profile for plan in made if plan.scenario == "bulk"} == set(profiles.known_profiles())
    assert {plan.dialect for plan in made} == {"native", "kcptube", "kcptun"}
    assert len(plans("FULL=1")) == len(list(sets.full())) > 200
    assert [plan.command[-16:] for plan in plans("ONLY=dns", "DIALECT=kcptube")] == [" DIALECT=kcptube"]


def test_a_trace_replaces_the_rates_and_is_part_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "cell.up").write_text("1\n")
    (tmp_path / "cell.down").write_text("1\n2\n")
    (plan,) = plans("PROFILE=trace", "ONLY=bulk", f"TRACE={tmp_path}/cell.down")
    assert plans(*shlex.split(plan.command)[4:]) == [plan]
    line = plan.line()
    assert [impair.mean_bps for impair in (line.up, line.down)] == [1504 * 8000] * 2
    assert line.down.delay_ns == profiles.load("trace").down.delay_ns
    assert e2e.main(["PROFILE=trace", f"TRACE={tmp_path}/nowhere"]) == 2


@pytest.mark.parametrize("plan", [*sets.CI, *sets.DEFAULT, *sets.full()], ids=lambda plan: plan.command)
def test_every_cell_can_be_repeated_by_its_command(plan: Plan) -> None:
    words = shlex.split(plan.command)
    assert words[:4] == ["python", "-m", "harness", "run"]
    assert plans(*words[4:]) == [plan]
    assert plan.mode in SCENARIOS[plan.scenario].modes
    assert plan.profile in profiles.known_profiles()


@pytest.mark.parametrize(
    "word",
    ["DIALECT=english", "PROFILE=nowhere", "ONLY=nothing", "MODE=loop", "SECOND=3", "bulk", "SEED=1 2=3"],
)
def test_words_that_make_no_sense_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    if word.startswith("SEED"):
        assert plans(word)[0].seed == "1 2=3", "a seed is any text"
        return
    assert e2e.main([word]) == 2
    assert word.partition("=")[0] in capsys.readouterr().err


class Runner(e2e.Runner):
    """Every case raises what it was made with."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(False, False)
        self.error = error

    def _case(self, scenario: object, plan: Plan, outcome: Outcome) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Skipped("no curl"), Verdict.SKIPPED),
        (Unsupported("no such chain"), Verdict.UNSUPPORTED),
        (Failed("the server ended"), Verdict.FAILED),
        (OSError("no memory"), Verdict.FAILED),
        (None, Verdict.FAILED),  # nothing was checked: that is no pass
    ],
)
def test_only_a_case_whose_checks_were_right_has_passed(error: Exception | None, verdict: Verdict) -> None:
    outcome = Runner(error).run(Plan("bulk", "server", "lan"))
    assert outcome.verdict is verdict and outcome.reason
    assert outcome.as_json()["verdict"] == verdict.value


def test_every_stage_has_its_own_key_and_its_lines_rates() -> None:
    class Line:
        profile = profiles.load("mobile")

    stages = [Stage("client", "relay", ("10.77.1.2", "fd77:1::2"), (Line(),))]  # type: ignore[arg-type]
    stages.append(Stage("relay", "server", ("fd77:2::2",), ()))
    texts = configurations(stages, "1", {"kcp": "fast1"}, 4)
    assert list(texts) == ["client", "relay", "server"]
    assert "destination_address=10.77.1.2\n" in texts["client"]
    assert "destination_address=fd77:2::2\n" in texts["relay"], "the only family there is"
    assert "outbound_bandwidth=9000000\n" in texts["client"], "nine tenths of 10mbit"
    assert "outbound_bandwidth=36000000\n" in texts["relay"].partition("[forwarder]")[0]
    keys = {
        line for text in texts.values() for line in text.splitlines() if line.startswith("encryption_key=")
    }
    assert len(keys) == 2
    assert all("kcp=fast1\n" in text for text in texts.values())


@pytest.mark.parametrize("harm", ["none", "changed", "swapped", "cut"])
def test_a_stream_is_compared_to_its_last_byte(harm: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.settimeout(10)
        pattern = Pattern(3)
        chunks = [bytes(pattern.chunk(number)) for number in range(3)]
        end = pattern.END + (3).to_bytes(8, "big")
        if harm == "changed":
            at = random.Random(1).randrange(CHUNK_BYTES)
            chunks[1] = chunks[1][:at] + bytes([chunks[1][at] ^ 1]) + chunks[1][at + 1 :]
        elif harm == "swapped":
            chunks[0], chunks[1] = chunks[1], chunks[0]
        elif harm == "cut":
            end = end[:-1]

        def send() -> None:
            try:
                ours.sendall(b"".join(chunks) + end)
            except OSError:
                return  # the other side has seen enough
            ours.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        timeline = Timeline(time.monotonic())
        if harm == "none":
            assert Pattern(3).receive(theirs, timeline) == 3 * CHUNK_BYTES
            assert sum(timeline.bins) == 3 * CHUNK_BYTES + 16
        else:
            with pytest.raises(Damaged):
                Pattern(3).receive(theirs, timeline)
            theirs.close()
        sender.join()


def test_distributions() -> None:
    found = distribution([float(number) for number in range(1000)])
    assert (found["p50"], found["p99"], found["max"]) == (500.0, 990.0, 999.0)
    assert distribution([]) == {"count": 0}
