"""What flows may name as their target."""

from dataclasses import dataclass

import pytest

from kcpg.core.flow import Target
from kcpg.net import addr
from kcpg.net.allow import AllowList


@dataclass(frozen=True)
class Rule:
    """As a configuration gives it."""

    network: str = ""
    name: str = ""
    ports: tuple[tuple[int, int], ...] = ()


def permits(rules, host, port, ip):
    return AllowList(rules).permits(Target(host, port), addr.pack(ip, port))


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
