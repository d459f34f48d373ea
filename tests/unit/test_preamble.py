"""What is said before a flow begins, without sockets: SOCKS5, HTTP's CONNECT, the PROXY protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcpg.core.flow import Reset, ResetCode, Target
from kcpg.net import addr, proxyprotocol, socks
from kcpg.net.preamble import LINE_MAX_BYTES, Malformed, Until


def run(script, data):
    """(result, answers, what the script left of the data). Gives bytes exactly as asked for."""
    answers = b""
    sent = None
    while True:
        try:
            wanted = script.send(sent)
        except StopIteration as end:
            return end.value, answers, data
        if isinstance(wanted, bytes):
            answers, sent = answers + wanted, b""
            continue
        size = wanted if isinstance(wanted, int) else data.find(wanted.mark) + len(wanted.mark)
        assert 0 < size <= LINE_MAX_BYTES
        if isinstance(wanted, Until) and size < len(wanted.mark):
            raise EOFError
        if len(data) < size:
            raise EOFError
        sent, data = data[:size], data[size:]


GREETING = b"\x05\x02\x00\x02"


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (b"\x01\xc0\x00\x02\x07\x00\x50", Target("192.0.2.7", 80)),
        (b"\x03\x0bexample.org\x01\xbb", Target("example.org", 443)),
        (
            b"\x04" + bytes.fromhex("20010db8000000000000000000000007") + b"\x00\x16",
            Target("2001:db8::7", 22),
        ),
    ],
)
def test_socks_connect_takes_its_request_and_not_a_byte_more(address, target):
    wish, answers, rest = run(socks.read(), GREETING + b"\x05\x01\x00" + address + b"hello")
    assert wish.target == target and answers == b"\x05\x00" and rest == b"hello"
    assert wish.accepted(addr.pack("127.0.0.1", 1080)) == b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"
    assert wish.accepted(addr.pack("::1", 1)) == b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x00\x01"
    assert wish.refused(Reset(ResetCode.NO_ROUTE))[:2] == b"\x05\x04"
    assert wish.refused(Reset(ResetCode.FORBIDDEN))[:2] == b"\x05\x02"
    assert wish.refused(Reset(ResetCode.INTERNAL))[:2] == b"\x05\x01"


def test_socks_udp_associate():
    wish, _, rest = run(socks.read(), GREETING + b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
    assert wish.target is None and rest == b""


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"\x05\x01\x02", b"\x05\xff"),  # with a password only
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"\x00\x5b" + bytes(6)),
        (GREETING + b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x07\x00\x01" + bytes(6)),  # BIND
        (GREETING + b"\x05\x01\x00\x02\x00", b"\x05\x08\x00\x01" + bytes(6)),  # an address of no kind
        (GREETING + b"\x05\x01\x00\x03\x00\x00\x50", b"\x05\x04\x00\x01" + bytes(6)),  # no name
        (GREETING + b"\x05\x01\x00\x03\x03a b\x00\x50", b"\x05\x04\x00\x01" + bytes(6)),
        (b"\x16\x03\x01\x02", b""),  # TLS
    ],
)
def test_what_socks_refuses(said, answer):
    with pytest.raises(Malformed) as wrong:
        run(socks.read(), said)
    assert wrong.value.answer == answer and str(wrong.value)


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("CONNECT example.org:443 HTTP/1.1", Target("example.org", 443)),
        ("CONNECT [2001:db8::7]:8443 HTTP/1.0", Target("2001:db8::7", 8443)),
    ],
)
def test_http_connect(line, target):
    request = f"{line}\r\nHost: x\r\nUser-Agent: y\r\n\r\n".encode()
    wish, answers, rest = run(socks.read(), request + b"\x16\x03")
    assert wish.target == target and answers == b"" and rest == b"\x16\x03"
    assert wish.accepted(b"").startswith(b"HTTP/1.1 200 ")
    refused = wish.refused(Reset(ResetCode.FORBIDDEN, "no"))
    assert refused.startswith(b"HTTP/1.1 403 ") and refused.endswith(b"forbidden: no\n")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://example.org/ HTTP/1.1", b"405"),
        ("CONNECT example.org HTTP/1.1", b"400"),
        ("CONNECT example.org:0 HTTP/1.1", b"400"),
        ("CONNECT example.org:99999 HTTP/1.1", b"400"),
        ("CONNECT  HTTP/1.1", b"400"),
        ("nonsense", b"400"),
    ],
)
def test_what_http_refuses(line, status):
    with pytest.raises(Malformed) as wrong:
        run(socks.read(), f"{line}\r\n\r\n".encode())
    answer = wrong.value.answer
    assert answer.split(b" ")[1] == status and b"\r\n\r\n" in answer


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data):
    for script in (socks.read(), proxyprotocol.read()):
        try:
            run(script, data)
        except (Malformed, EOFError):
            pass


@given(st.binary(max_size=60))
def test_packets_are_read_or_dropped(data):
    found = socks.read_packet(data)
    if found is not None:
        head, target, at = found
        assert b"\x00" not in data[2:3].strip(b"\x00") and data[3:at] == head and 0 < target.port < 65536


def test_a_packet_gives_its_target_and_payload():
    packet = b"\x00\x00\x00\x03\x0bexample.org\x00\x35payload"
    head, target, at = socks.read_packet(packet)
    assert target == Target("example.org", 53) and packet[at:] == b"payload" and head == packet[3:at]
    assert socks.read_packet(b"\x00\x00\x01" + packet[3:]) is None, "a fragment"
    assert socks.read_packet(packet[:10]) is None


# -- the PROXY protocol, its specification's layout --

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"


@pytest.mark.parametrize(
    ("source", "target", "header"),
    [
        ("192.0.2.1:5000", ("198.51.100.2", 80), "2111000c" "c0000201" "c6336402" "1388" "0050"),
        ("[2001:db8::1]:5000", ("2001:db8::2", 80),
         "21210024" "20010db8000000000000000000000001" "20010db8000000000000000000000002" "1388" "0050"),
        ("192.0.2.1:5000", ("2001:db8::2", 80),
         "21210024" "00000000000000000000ffffc0000201" "20010db8000000000000000000000002" "1388" "0050"),
        ("[fe80::1%eth7]:5000", ("::ffff:198.51.100.2", 80),
         "21210024" "fe800000000000000000000000000001" "00000000000000000000ffffc6336402" "1388" "0050"),
        ("192.0.2.1:5000", None, "2111000c" "c0000201" "00000000" "1388" "0000"),
        ("unix", ("198.51.100.2", 80), "20000000"),
        ("", None, "20000000"),
    ],
)  # fmt: skip
def test_the_header_to_a_target(source, target, header):
    packed = addr.pack(*target) if target else None
    written = proxyprotocol.header(source, packed)
    assert written == SIGNATURE + bytes.fromhex(header)
    said, answers, rest = run(proxyprotocol.read(), written + b"x")
    want = "" if header == "20000000" else source.replace("%eth7", "")
    assert (said, answers, rest) == (want, b"", b"x")


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n", "192.0.2.1:5000"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n", "[2001:db8::1]:5000"),
        (b"PROXY UNKNOWN\r\n", ""),
        (SIGNATURE + bytes.fromhex("2111000fc0000201c633640213880050030000"), "192.0.2.1:5000"),
        (SIGNATURE + bytes.fromhex("20000000"), ""),  # LOCAL
        (SIGNATURE + bytes.fromhex("21000000"), ""),  # UNSPEC
        (SIGNATURE + bytes.fromhex("213100d8") + bytes(216), ""),  # between UNIX sockets
    ],
)
def test_headers_of_balancers(header, source):
    said, _, rest = run(proxyprotocol.read(), header + b"GET")
    assert said == source and rest == b"GET"


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 nonsense 198.51.100.2 5000 80\r\n",
        b"PROXY TCP4 192.0.2.1\r\n",
        SIGNATURE[:-1] + b"X" + bytes.fromhex("20000000"),
        SIGNATURE + bytes.fromhex("1111000c") + bytes(12),  # version 1 in the form of 2
        SIGNATURE + bytes.fromhex("22000000"),  # a command that does not exist
        SIGNATURE + bytes.fromhex("21110004") + bytes(4),  # no room for the addresses
        SIGNATURE + bytes.fromhex("2111ffff") + bytes(0xFFFF),
    ],
)
def test_headers_that_are_none(header):
    with pytest.raises(Malformed):
        run(proxyprotocol.read(), header)
