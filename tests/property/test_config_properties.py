"""Configuration of any content: nothing is raised, nothing is ignored silently, secrets stay secret."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.app.config import Severity, load_text, load_texts
from kcpg.app.config.addresses import Ports, port_list
from kcpg.app.config.keys import KEYS, SECTIONS
from kcpg.app.config.model import Action, LegConfig, Loaded
from kcpg.app.config.values import BadValue, bandwidth

WORDS = [
    "1",
    "0",
    "-1",
    "yes",
    "300MM",
    "3000-3010",
    "::1",
    "{}",
    "x",
    "20:4",
    "fast1",
    "AES-GCM",
    "1 # x",
    "ÿ",
    "99999999999",
]
keys = st.sampled_from(sorted(KEYS))
value = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))
lines = st.one_of(
    st.builds("{}={}".format, keys, value),
    st.builds("{}={}".format, st.text(max_size=8), value),
    st.sampled_from([f"[{name}]" for name in SECTIONS]),
    st.sampled_from(["mode=client", "mode=relay", "mode=server", ":80 -> a:80", ":1-9->[::1]:1-9"]),
    st.text(max_size=20),
)
files = st.lists(lines, max_size=20).map("\n".join)


@settings(deadline=None, max_examples=300)
@given(st.lists(files, max_size=3))
def test_any_lines_load_without_an_exception(texts: list[str]) -> None:
    loaded = load_texts({f"{number}.conf": text for number, text in enumerate(texts)})
    check_invariants(loaded, len(texts))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_load_without_an_exception(data: bytes) -> None:
    check_invariants(load_text("a.conf", data), 1)


def check_invariants(loaded: Loaded, count: int) -> None:
    failed = {problem.file for problem in loaded.errors}
    assert len(loaded.nodes) == count - len(failed)
    assert loaded.ok == (not failed)
    for problem in loaded.problems:
        assert str(problem).isprintable()
        assert problem.reason
    for node in loaded.nodes:
        check_leg(node.ingress, Action.LISTEN)
        check_leg(node.egress, Action.DIAL)


def check_leg(leg: LegConfig, action: Action) -> None:
    """What the rest of the program may rely on."""
    assert leg.action is action
    assert leg.ports or leg.mappings or leg.any_target
    assert list(leg.ports) == sorted(set(leg.ports)) and set(leg.ports) <= set(range(1, 65536))
    assert action is Action.LISTEN or leg.addresses or leg.any_target
    assert not (leg.ipv4_only and leg.ipv6_only)
    assert 1 <= leg.udp_timeout_s <= 65535 + 5
    assert 1 <= leg.kcp_snd_wnd_segments <= 65535 and 1 <= leg.kcp_rcv_wnd_segments <= 65535
    assert leg.datagram_bytes >= 528
    assert leg.key is None or len(leg.key) == 32


secret = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=9, max_size=30)


@settings(deadline=None, max_examples=100)
@given(
    secret,
    st.sampled_from(
        ["{}", "encryption_password={}", "encryption_key={}", "encryption_password {}", "[{}", "# {}"]
    ),
)
def test_secrets_are_never_shown(word: str, form: str) -> None:
    word = "#Geheim§" + word
    text = f"mode=client\nlisten_port=5\ndestination_port=6\ndestination_address=::1\n{form.format(word)}\n"
    loaded = load_text("a.conf", text)
    shown = repr(loaded) + "".join(map(str, loaded.problems))
    assert "Geheim" not in shown and "geheim" not in shown


@settings(deadline=None)
@given(st.sets(st.integers(1, 65535), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_a_port_list_is_the_set_of_its_ports(ports: set[int], rng: object) -> None:
    items = [str(port) if port % 2 else f"{port}-{min(port + port % 7 + 1, 65535)}" for port in ports]
    rng.shuffle(items)  # type: ignore[attr-defined]
    expected = set(ports)
    for port in ports:
        if port % 2 == 0:
            expected |= set(range(port, min(port + port % 7 + 1, 65535) + 1))
    assert port_list(" , ".join(items), []) == Ports(custom=False, numbers=tuple(sorted(expected)))


@settings(deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from(["", "K", "k", "M", "m", "G", "g"]))
def test_bandwidth_is_number_times_unit(number: int, unit: str) -> None:
    base = 1024 if unit.isupper() else 1000
    power = {"": 0, "k": 1, "m": 2, "g": 3}[unit.lower()]
    remarks: list[str] = []
    assert bandwidth(f"{number}{unit}", remarks) == number * base**power
    assert remarks == []


@settings(deadline=None, max_examples=300)
@given(keys, st.text(max_size=30))
def test_every_parser_returns_or_says_what_is_wrong(key: str, text: str) -> None:
    try:
        KEYS[key].parse(text, [])
    except BadValue as bad:
        assert bad.reason


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_every_key_survives_base64(key: bytes) -> None:
    text = "mode=server\nlisten_port=5\ndestination_port=6\ndestination_address=::1\nencryption_key="
    loaded = load_text("a.conf", text + base64.b64encode(key).decode())
    assert loaded.nodes[0].ingress.key == key
    assert [problem.severity for problem in loaded.problems] == [Severity.NOTE]
