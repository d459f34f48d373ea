"""Values of configuration keys: what is accepted, how it is read, what is said about it."""

from __future__ import annotations

import pytest

from kcpg.app.config import addresses, values
from kcpg.app.config.keys import KEYS
from kcpg.app.config.model import AllowRule, FecConfig
from kcpg.app.config.presets import PRESETS
from kcpg.app.config.values import BadValue


def read(key: str, text: str) -> tuple[object, list[str]]:
    remarks: list[str] = []
    return KEYS[key].parse(text, remarks), remarks


@pytest.mark.parametrize(
    ("text", "bps"),
    [
        ("1000", 1000),
        ("5", 5),
        ("0", 0),
        ("100k", 100_000),
        ("100K", 102_400),
        ("50m", 50_000_000),
        ("300M", 300 * 1024**2),
        ("1G", 1024**3),
        ("1g", 10**9),
        ("100 M", 100 * 1024**2),
        ("2000000000", 2_000_000_000),
    ],
)
def test_bandwidth(text: str, bps: int) -> None:
    assert read("outbound_bandwidth", text) == (bps, [])


def test_bandwidth_with_a_doubled_unit_is_read_and_remarked() -> None:
    assert read("outbound_bandwidth", "300MM") == (314572800, ["read '300MM' as 300M, 314572800 bit/s"])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1.5G", "write 1536M"),
        ("1,5g", "write 1500m"),
        ("0.0001K", "use a smaller unit"),
        ("100Mbps", "write 100M: bits per second"),
        ("100x", "use K, M, G, k, m or g"),
        ("M", "for example 300M (bits per second)"),
        ("-5M", "for example 300M (bits per second)"),
        ("99999999999M", "the largest is 2147483647"),
    ],
)
def test_bad_bandwidth_has_a_hint(text: str, hint: str) -> None:
    with pytest.raises(BadValue) as error:
        read("inbound_bandwidth", text)
    assert error.value.hint == hint


@pytest.mark.parametrize(
    ("text", "number", "remarks"),
    [
        ("30", 30, 0),
        ("+30", 30, 0),
        ("30a", 30, 1),
        ("30 # seconds", 30, 1),
        ("0030", 30, 0),
        ("0", 180, 0),
        ("-1", 180, 1),
        ("65535", 65535, 0),
        ("65536", 180, 1),
    ],
)
def test_udp_timeout(text: str, number: int, remarks: int) -> None:
    value, said = read("udp_timeout", text)
    assert (value, len(said)) == (number, remarks)


@pytest.mark.parametrize("text", ["", "x30", "0x10", "2147483648", "9" * 5000, "- 3", "٣"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(BadValue):
        read("udp_timeout", text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("1", 20), ("19", 20), ("20", 20), ("600", 600), ("32768", 32767)]
)
def test_dport_refresh_is_moved_into_its_range(text: str, seconds: int) -> None:
    assert read("dport_refresh", text)[0] == seconds


@pytest.mark.parametrize("key", ["keep_alive", "mux_tunnels", "fib_ingress"])
def test_clamped_keys(key: str) -> None:
    assert [read(key, text)[0] for text in ("-7", "0", "65535", "70000")] == [0, 0, 65535, 65535]


@pytest.mark.parametrize(
    ("text", "value"), [("YES", True), ("true", True), ("1", True), ("No", False), ("0", False)]
)
def test_boolean(text: str, value: bool) -> None:
    assert read("ipv4_only", text) == (value, [])


def test_boolean_with_a_comment_is_read_without_it() -> None:
    value, remarks = read("ipv4_only", "0 # both")
    assert value is False and len(remarks) == 1


def test_on_and_off_are_errors_with_a_hint() -> None:
    # kcptube takes both as no.
    with pytest.raises(BadValue) as error:
        read("kcp_nc", "on")
    assert error.value.hint == "write yes"


def test_windows() -> None:
    assert read("kcp_sndwnd", "0") == (None, [])
    assert read("kcp_rcvwnd", "70000")[0] == 65535
    with pytest.raises(BadValue):
        read("kcp_sndwnd", "-1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20:4", FecConfig(auto=False, data_shards=20, parity_shards=4)),
        ("1 : 1", FecConfig(auto=False, data_shards=1, parity_shards=1)),
        ("200:55", FecConfig(auto=False, data_shards=200, parity_shards=55)),
        ("AUTO", FecConfig(auto=True, data_shards=0, parity_shards=0)),
        ("off", None),
        ("0:4", None),
        ("20:0", None),
    ],
)
def test_fec(text: str, value: FecConfig | None) -> None:
    assert read("fec", text) == (value, [])


@pytest.mark.parametrize("text", ["20", "20:", ":4", "200:56", "-1:4", "a:b"])
def test_bad_fec(text: str) -> None:
    with pytest.raises(BadValue):
        read("fec", text)


def test_algorithms_are_spelled_as_the_core_has_them() -> None:
    for name in ("AES-GCM", "AES-OCB", "chacha20", "xchacha20", "none", "XOR"):
        assert read("encryption_algorithm", name.upper())[0] == name
    with pytest.raises(BadValue) as error:
        read("encryption_algorithm", "aes-gmc")
    assert error.value.hint == "did you mean 'AES-GCM'?"


def test_every_preset_is_a_value_of_kcp() -> None:
    for name in PRESETS:
        assert read("kcp", name) == (name, [])
    assert len(PRESETS) == 6 + 5 + 1


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3000", (3000,)),
        ("3000-3002", (3000, 3001, 3002)),
        ("65534-65535", (65534, 65535)),
        ("4000, 3000 - 3001,3001", (3000, 3001, 4000)),
    ],
)
def test_ports(text: str, numbers: tuple[int, ...]) -> None:
    assert read("listen_port", text) == (addresses.Ports(custom=False, numbers=numbers), [])


def test_braces_are_a_value_of_their_own() -> None:
    assert read("listen_port", "{}") == (addresses.Ports(custom=True, numbers=()), [])
    assert read("destination_address", "{}") == (addresses.Addresses(custom=True, names=()), [])


def test_a_range_of_one_port_is_remarked() -> None:
    value, remarks = read("listen_port", "3000-3000")
    assert value == addresses.Ports(custom=False, numbers=(3000,)) and len(remarks) == 1


@pytest.mark.parametrize("text", ["0", "65536", "3010-3000", "3000-", "-3000", "3000,,3001", "http", ","])
def test_bad_ports(text: str) -> None:
    with pytest.raises(BadValue):
        read("destination_port", text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("::1", ("::1",)),
        ("[2001:DB8:0:0::1]", ("2001:db8::1",)),
        ("fe80::1%eth0", ("fe80::1%eth0",)),
        ("::ffff:192.0.2.1", ("::ffff:192.0.2.1",)),
        ("B.example, a.Example.,a.example", ("a.example", "b.example")),
        ("localhost", ("localhost",)),
        ("bücher.example", ("xn--bcher-kva.example",)),
        ("192.0.2.1,::1,_kcp.example", ("192.0.2.1", "::1", "_kcp.example")),
    ],
)
def test_addresses(text: str, names: tuple[str, ...]) -> None:
    assert read("destination_address", text) == (addresses.Addresses(custom=False, names=names), [])


@pytest.mark.parametrize(
    "text",
    [
        "300.1.2.3",
        "1.2.3",
        "127.1",
        "a..b",
        "-a.example",
        "::g",
        "[::1",
        "host:80",
        "a b",
        "a,,b",
        "x" * 300,
        "\udcff",
    ],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(BadValue) as error:
        read("destination_address", text)
    assert error.value.reason.isprintable() or "\udcff" in error.value.reason


def test_stun_server_may_have_a_port() -> None:
    assert read("stun_server", "stun.example")[0] == "stun.example"
    assert read("stun_server", "stun.example:3479")[0] == "stun.example:3479"
    assert read("stun_server", "[::1]:3479")[0] == "[::1]:3479"
    assert read("stun_server", "::1")[0] == "::1"


def test_mapping_of_ranges() -> None:
    found = addresses.mapping_line(
        "[::1]:5000-5002 -> Target.example:600-602", tcp=True, udp=False, remarks=[]
    )
    assert [(m.listen_address, m.listen_port, m.target_address, m.target_port) for m in found] == [
        ("::1", 5000 + i, "target.example", 600 + i) for i in range(3)
    ]
    assert all(m.tcp and not m.udp for m in found)
    many_to_one = addresses.mapping_line(":5-7 -> 10.0.0.1:80", tcp=True, udp=True, remarks=[])
    assert [(m.listen_address, m.listen_port, m.target_port) for m in many_to_one] == [
        ("", p, 80) for p in (5, 6, 7)
    ]


@pytest.mark.parametrize(
    "text",
    [
        ":80 -> :80",
        ":80 -> host",
        "80 -> a:1",
        "::1:80 -> a:1",
        ":1-3 -> a:1-2",
        ":0 -> a:1",
        "->",
        ":1->a:x",
        "localhost:80 -> a:1",
    ],
)
def test_bad_mappings(text: str) -> None:
    with pytest.raises(BadValue):
        addresses.mapping_line(text, tcp=True, udp=True, remarks=[])


def test_allow_targets() -> None:
    value, remarks = read(
        "allow_targets", "10.0.0.0/8:22, [fd00::/8]:80-90,*.Example.org,192.0.2.1,host:1,*:443,::1"
    )
    assert remarks == []
    assert value == (
        AllowRule("10.0.0.0/8", "", ((22, 22),)),
        AllowRule("fd00::/8", "", ((80, 90),)),
        AllowRule("", "*.example.org", ()),
        AllowRule("192.0.2.1/32", "", ()),
        AllowRule("", "host", ((1, 1),)),
        AllowRule("", "*", ((443, 443),)),
        AllowRule("::1/128", "", ()),
    )


def test_targets_that_are_denied() -> None:
    value, remarks = read("allow_targets", "!10.0.0.0/8, ! [fd00::/8]:22,!*.example.org,10.0.0.0/8")
    assert remarks == []
    assert value == (
        AllowRule("10.0.0.0/8", "", (), denies=True),
        AllowRule("fd00::/8", "", ((22, 22),), denies=True),
        AllowRule("", "*.example.org", (), denies=True),
        AllowRule("10.0.0.0/8", "", ()),
    )
    for bad in ("!", "!!10.0.0.0/8", "10.0.0.0/8,!"):
        with pytest.raises(BadValue):
            read("allow_targets", bad)


def test_a_network_with_host_bits_gets_a_hint() -> None:
    with pytest.raises(BadValue) as error:
        read("allow_targets", "10.1.2.3/8")
    assert error.value.hint == "write 10.0.0.0/8"


def test_a_key_of_the_wrong_length_is_not_shown() -> None:
    for text in ("c2hvcnQ=", "not base64!", "ÿ"):
        with pytest.raises(BadValue) as error:
            read("encryption_key", text)
        assert text not in error.value.reason + error.value.hint


def test_password_keeps_its_bytes() -> None:
    text = b"p\xe4ss # w\xc3\xb6rd".decode("utf-8", "surrogateescape")
    value, remarks = read("encryption_password", text)
    assert value == b"p\xe4ss # w\xc3\xb6rd"
    assert len(remarks) == 2 and "not UTF-8" in remarks.pop(0) and "ss" not in remarks[0].split("'#'")[0]


def test_suggestions() -> None:
    assert values.suggest("listen_prot", KEYS) == "did you mean 'listen_port'?"
    assert values.suggest("zzz", KEYS) == ""
