"""What flows may name as their target."""

from dataclasses import dataclass

import pytest

from kcpg.app.config.addresses import allow_list
from kcpg.core.flow import Target
from kcpg.net import addr
from kcpg.net.allow import RESERVED, AllowList


@dataclass(frozen=True)
class Rule:
    """As a configuration gives it."""

    network: str = ""
    name: str = ""
    ports: tuple[tuple[int, int], ...] = ()
    denies: bool = False


def permits(rules, host, port, ip):
    return AllowList(rules).permits(Target(host, port), addr.pack(ip, port))


def listed(text):
    """The rules of a configuration's `allow_targets`."""
    remarks = []
    rules = allow_list(text, remarks)
    assert not remarks
    return rules


def test_no_rules_permit_all_and_an_empty_list_nothing():
    assert permits(None, "anything", 1, "10.0.0.1")
    assert not permits((), "anything", 1, "10.0.0.1")


@pytest.mark.parametrize(
    ("ip", "port", "allowed"),
    [
        ("10.1.2.3", 80, True),
        ("10.1.2.3", 81, False),
        ("11.0.0.1", 80, False),
        ("::ffff:10.1.2.3", 80, True),
        ("2001:db8::1", 80, False),
    ],
)
def test_networks_and_ports(ip, port, allowed):
    assert permits([Rule(network="10.0.0.0/8", ports=((80, 80), (443, 443)))], ip, port, ip) is allowed


def test_the_address_decides_not_the_name_that_led_there():
    rules = [Rule(network="10.0.0.0/8")]
    assert permits(rules, "inside.example", 1, "10.0.0.1")
    assert not permits(rules, "10.0.0.1.example", 1, "192.168.0.1")


@pytest.mark.parametrize(
    ("rule", "host", "allowed"),
    [
        ("*", "anything.example", True),
        ("example.org", "Example.ORG.", True),
        ("example.org", "www.example.org", False),
        ("*.example.org", "www.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "badexample.org", False),
    ],
)
def test_names(rule, host, allowed):
    assert permits([Rule(name=rule)], host, 1, "192.0.2.1") is allowed


SECRET_PLACES = ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200"]


@pytest.mark.parametrize("ip", [*SECRET_PLACES, "64:ff9b::a9fe:a9fe", *(str(one[-1]) for one in RESERVED)])
@pytest.mark.parametrize("rules", [None, "*", "0.0.0.0/0,::/0", "*.example", "!10.0.0.0/8", "*:80"])
def test_nobody_opens_metadata_and_link_local_addresses_unasked(ip, rules):
    given = None if rules is None else listed(rules)
    assert not permits(given, ip, 80, ip)
    assert not permits(given, "rebound.example", 80, ip), "the address decides, not the name"


@pytest.mark.parametrize(
    ("rules", "ip", "port", "allowed"),
    [
        ("169.254.0.0/16", "169.254.169.254", 80, True),
        ("169.254.169.254", "169.254.169.254", 80, True),
        ("169.254.169.254", "169.254.169.253", 80, False),
        ("169.254.169.254:80", "169.254.169.254", 80, True),
        ("*,169.254.169.254:80", "169.254.169.254", 443, False),
        ("*,169.254.169.254", "10.0.0.1", 443, True),
        ("fe80::/10", "fe80::1", 1, True),
        ("169.254.169.254,!169.254.0.0/16", "169.254.169.254", 80, False),
    ],
)
def test_who_names_a_reserved_address_gets_it(rules, ip, port, allowed):
    assert permits(listed(rules), ip, port, ip) is allowed


@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "::1", "0.0.0.0", "10.0.0.1", "192.168.1.1", "fd00::1", "192.0.2.1"]
)
def test_loopback_and_private_networks_stay_open(ip):
    assert permits(None, ip, 8000, ip)


@pytest.mark.parametrize(
    ("rules", "host", "ip", "port", "allowed"),
    [
        ("!10.0.0.0/8", "10.0.0.1", "10.0.0.1", 1, False),
        ("!10.0.0.0/8", "11.0.0.1", "11.0.0.1", 1, True),
        ("!10.0.0.0/8", "name.example", "10.0.0.1", 1, False),
        ("!10.0.0.0/8", "10.0.0.1", "::ffff:10.0.0.1", 1, False),
        ("!10.0.0.0/8", "x", "64:ff9b::a00:1", 1, False),
        ("!10.0.0.0/8:22", "10.0.0.1", "10.0.0.1", 22, False),
        ("!10.0.0.0/8:22", "10.0.0.1", "10.0.0.1", 23, True),
        ("10.0.0.0/8,!10.1.0.0/16", "10.1.0.1", "10.1.0.1", 1, False),
        ("!10.1.0.0/16,10.0.0.0/8", "10.1.0.1", "10.1.0.1", 1, False),
        ("10.0.0.0/8,!10.1.0.0/16", "10.2.0.1", "10.2.0.1", 1, True),
        ("10.0.0.0/8,!10.1.0.0/16", "11.0.0.1", "11.0.0.1", 1, False),
        ("!127.0.0.0/8", "0.0.0.0", "0.0.0.0", 1, False),
        ("!::1", "::", "::", 1, False),
        ("!*.example", "a.example", "192.0.2.1", 1, False),
        ("!*.example", "a.example.org", "192.0.2.1", 1, True),
        ("!*", "a.example.org", "192.0.2.1", 1, False),
        ("*.example,!192.168.0.0/16", "a.example", "192.168.0.1", 1, False),
        ("127.0.0.1", "0.0.0.0", "0.0.0.0", 1, False),
        ("127.0.0.1", "x", "64:ff9b::7f00:1", 1, False),
    ],
)
def test_rules_may_deny(rules, host, ip, port, allowed):
    assert permits(listed(rules), host, port, ip) is allowed
