"""The Chinese documents are complete, and what a Chinese keyboard gives is understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kcpg.app.config import Severity, load_text, reference
from kcpg.app.config.chinese import GROUPS, ZH
from kcpg.app.config.keys import KEYS
from kcpg.app.config.reference_chinese import DIFFERENCES, HEAD
from tests.unit.config_texts import CLIENT, SERVER, errors, said

DOCS = Path(__file__).parents[2] / "docs"
PAIRS = {"migrate.md": "migrate.md", "troubleshooting.md": "troubleshooting.md"}


def numbers(text):
    return sorted(re.findall(r"\d+", text))


def test_the_page_is_up_to_date():
    page = (DOCS / "zh" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference.markdown_chinese(), (
        "run: python -m kcpg.app.config.reference docs/zh/configuration.md"
    )


def test_every_key_and_group_has_its_row():
    assert set(ZH) == set(KEYS), "a key needs a row in kcpg/app/config/chinese.py"
    assert set(GROUPS) == {key.group for key in KEYS.values()}


@pytest.mark.parametrize("name", KEYS)
def test_both_columns_name_the_same_numbers(name):
    """A range or a default that changes in one language changes in the other."""
    key, words = KEYS[name], ZH[name]
    for field in ("values", "default_text", "meaning", "limits"):
        assert sorted(set(numbers(getattr(key, field)))) == sorted(set(numbers(getattr(words, field)))), field
    assert bool(key.limits) == bool(words.limits) and bool(key.pending) == bool(words.pending)
    quoted = re.findall(r"\b(?:kcp|fec|dialect|mux_tunnels|destination_port)=\S*\w", key.meaning)
    assert all(word in words.meaning for word in quoted), quoted


def test_the_page_around_the_table_has_the_same_parts():
    def shape(text):
        return [
            re.findall(p, text, re.MULTILINE) for p in (r"^```", r"^## ", r"^- ", r"^\|", r"`[a-z_]+=\S*?`")
        ]

    head, tail = shape(reference._HEAD), shape(HEAD)
    assert [len(found) for found in head[:2]] == [len(found) for found in tail[:2]]
    assert len(shape(reference._DIFFERENCES)[3]) == len(shape(DIFFERENCES)[3])
    blocks = r"```\n(.*?)```"
    assert re.findall(blocks, reference._HEAD, re.DOTALL) == re.findall(blocks, HEAD, re.DOTALL)


def commands(text):
    """The lines of code blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(("english", "chinese"), PAIRS.items())
def test_a_page_has_the_same_headings_tables_and_commands(english, chinese):
    one = (DOCS / english).read_text("utf-8")
    other = (DOCS / "zh" / chinese).read_text("utf-8")
    assert one.count("\n## ") == other.count("\n## ")
    assert commands(one) == commands(other)
    keys = {key for key in KEYS if f"`{key}" in one}
    assert not {key for key in keys if f"`{key}" not in other}


def test_links_between_documents_lead_somewhere():
    root = DOCS.parent
    wrong = []
    for page in (root / "README.md", *DOCS.glob("*.md"), *(DOCS / "zh").glob("*.md")):
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        near = [target for target in targets if "://" not in target]
        wrong += [f"{page.name}: {target}" for target in near if not (page.parent / target).exists()]
    assert not wrong, wrong


# -- keyboards --


@pytest.mark.parametrize(
    ("line", "key", "ports"),
    [
        ("listen_port=3000，3001", "listen_port", (3000, 3001)),
        ("listen_port=3000、3001", "listen_port", (3000, 3001)),
        ("listen_port=３０００－３００２", "listen_port", (3000, 3001, 3002)),
    ],
)
def test_fullwidth_values_are_read_with_a_remark(line, key, ports):
    loaded = load_text("a.conf", SERVER.replace("listen_port=13000-13010", line))
    assert loaded.ok and loaded.nodes[0].ingress.ports == ports
    (warning,) = said(loaded, Severity.WARNING, key)
    assert "fullwidth" in warning.reason


def test_fullwidth_equals_signs_sections_and_comments():
    text = CLIENT.replace("listen_port=59000", "listen_port＝{}").replace("mode=", "ｍｏｄｅ＝")
    loaded = load_text("a.conf", "＃ 注释\n" + text + "［custom_input］\n127.0.0.1：80 -> 10.0.0.1：8080\n")
    assert loaded.ok, loaded.problems
    (mapping,) = loaded.nodes[0].ingress.mappings
    assert (mapping.listen_port, mapping.target_port) == (80, 8080)


def test_a_password_stays_as_it_is_typed():
    text = CLIENT.replace("unguessable-1234", "密码，＝１")
    loaded = load_text("a.conf", text)
    assert loaded.nodes[0].egress.password == "密码，＝１".encode()
    warnings = said(loaded, Severity.WARNING, "encryption_password")
    assert not [warning for warning in warnings if "fullwidth" in warning.reason or "UTF-8" in warning.reason]
    assert errors(CLIENT.replace("encryption_password=", "encryption_password＝x=")), "the first one is plain"


def test_a_password_in_another_encoding_is_named():
    loaded = load_text("a.conf", CLIENT.replace("unguessable-1234", "密码").encode("gbk"))
    reasons = [warning.reason for warning in said(loaded, Severity.WARNING, "encryption_password")]
    assert any("not UTF-8" in reason for reason in reasons) and loaded.nodes[
        0
    ].egress.password == "密码".encode("gbk")
