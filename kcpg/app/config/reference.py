"""The table of keys as a page: `docs/configuration.md`, and `docs/zh/configuration.md` in Chinese. A test
keeps table and pages the same.

`python -m kcpg.app.config.reference docs/configuration.md docs/zh/configuration.md` writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from kcpg.app.config import reference_chinese as chinese
from kcpg.app.config.chinese import GROUPS as CHINESE_GROUPS
from kcpg.app.config.chinese import ZH
from kcpg.app.config.keys import KEYS, Key, Scope
from kcpg.app.config.presets import MANUAL, PRESETS

_HEAD = """\
# Configuration

<!-- Made from kcpg/app/config/keys.py by: python -m kcpg.app.config.reference docs/configuration.md -->

A file describes one node. To run several nodes in one process, name several files on the command line. `kcpg
--check-config FILE…` reports every mistake with its file, line, key, reason and a hint; `kcpg help config
KEY` explains one key.

```
mode=client
listen_on=127.0.0.1
listen_port=59000
destination_address=203.0.113.7
destination_port=3000-3010
encryption_algorithm=AES-GCM
encryption_password=the secret both ends share
```

## Grammar

- One `key=value` per line, split at the first `=`. Blanks around key and value do not count; keys may be
  upper or lower case.
- Empty lines and lines that begin with `#` do not count. A value cannot have a comment behind it: kcpg takes
  it as part of a free text (password, path), drops it from any other value, and warns in both cases.
- A key without a value does not count (warning). If a key stands twice, the last line counts (warning);
  `mode` may stand only once (error). `{}` and an ordinary value in two lines add up.
- An unknown key, section or value is an error; kcpg ignores nothing silently.
- Numbers are decimal. As in kcptube, leading digits count and kcpg ignores the rest with a warning:
  `300MM` is `300M`.
- Bandwidths are bits per second; `K M G` are powers of 1024, `k m g` powers of 1000, `1000` is 1000
  bit/s.
- Port lists: `3000`, `3000-3010`, `3000-3010,4000`. kcpg sorts lists and drops duplicates.
- Addresses: IPv4, IPv6 (brackets allowed, `%zone` for link-local ones) or names.
- Fullwidth punctuation and digits, as Chinese and Japanese keyboards give them, are read as plain ones, with
  a warning; passwords and paths stay as they are.
- The text may be UTF-8, with or without byte order mark, with the line ends of any system. A password
  consists of the bytes between the blanks, in whatever encoding the file has; both ends must have the same
  bytes, so kcpg warns if they are not UTF-8.

## Sections

A relay has two sections, both required: `[listener]` towards the client, `[forwarder]` towards the server.
Keys whose *where* below says *relay* or *everywhere* may also stand outside of them, above the first. There
they **override** the same key inside both sections, with a warning where the two differ. For `ipv4_only` and
`ipv6_only`, only `yes` overrides.

A client may have `[custom_input]`, `[custom_input_tcp]` and `[custom_input_udp]`, with lines such as

```
127.0.0.1:13389 -> 203.0.113.9:3389
:5000-5010 -> [::1]:6000-6010
```

`listen_port={}`, alone or beside an ordinary `listen_port`, switches them on. The server needs
`destination_port={}`; its `allow_targets` limits what clients may choose. A range maps to a range of the same
length, or to one port. A relay needs no setting: it passes targets on.

## A server behind a NAT

If the server's address changes, or a router in front of it assigns it another port, the server can find out
and publish its address:

```
listen_port=3000
stun_server=stun.example.org
update_ipv4=/usr/local/bin/publish
log_path=/var/log/kcpg
```

kcpg runs the program with the address, for example `publish 203.0.113.7:41000`, once after the start and once
for every change. The program may put the address into a DNS TXT record, where clients and relays find it:

```
destination_dnstxt=tunnel.example.org
```

```
tunnel.example.org.  60  IN  TXT  "203.0.113.7:41000"
```

Every string of every TXT record that has this form, or `[2001:db8::7]:3000`, is an address of the same node;
kcpg skips other strings with a warning. It looks the record up at start, when the link is silent, and as
often as the TTL says, but at most every 30 s and at least every hour. A link that works stays where it is. If
a look-up fails, kcpg keeps the address it has. The router must let in peers that the server has not
contacted: a forwarded port does, a NAT that opens its port for the STUN server alone does not.

## A relay's udp_timeout

A relay must not forget a UDP flow before the client and the server do. It waits for the largest `udp_timeout`
that it knows of, plus 5 seconds: its own, and those of a client and a server on the same command line. For an
end that is not there, it assumes the default. kcpg warns if the relay's own value is lower.
"""

_TAIL = """\
## KCP presets

| kcp | nodelay | interval ms | resend | nc | windows |
|---|---|---|---|---|---|
"""

_DIFFERENCES = """
`auto`, which the examples use, measures rate and windows: there is nothing to configure. This end then sends
as fast as the path delivers, keeps its queues short, and does not slow down because of losses.
`outbound_bandwidth` and `inbound_bandwidth` remain upper limits; the windows above, or `kcp_sndwnd` and
`kcp_rcvwnd`, are the most that they may grow to. `auto` concerns what this end sends: set it at both ends.
The other presets send as much as their window holds, at any rate or at that of `outbound_bandwidth`.

## Where this differs from kcptube

kcpg reads kcptube's files. Where kcptube's program does not do what its documentation says, kcpg follows the
documentation:

| | kcptube's program | here |
|---|---|---|
| `ipv4_only=0`, `ipv6_only=no` | switches the restriction on | both address families |
| `outbound_bandwidth=1000` | 100 bit/s: the last digit is lost | 1000 bit/s |
| a port range that ends in 65535 | hangs | works |
| `mtu` and `kcp_mtu` both set | `mtu` counts | `kcp_mtu` counts (warning) |
| `kcp_mtu` | KCP's own, 22 bytes less than the datagram | the content of the UDP datagram |
| `blast` | on by default; without it data waits for the next tick | data leaves at once in any case |
| names in `listen_on` | refused at start | resolved at start |
| `kcp=manual` outside the sections | its numbers are not copied | they are |
| `encryption_algorithm` missing, password set | nothing is encrypted | AES-GCM; with `dialect=kcptube` an \
error |
| `mux_tunnels` missing | 0 | 1; with `dialect=kcptube` 0 |
| `encryption_algorithm=none` outside, a cipher inside a section | does not override | error |
| `on`, `off` for yes and no | both mean no | error with a hint |
| `1.5G`, `0x10` | 1G, 0 | error with a hint |
| unknown key without value | ignored | error |
| exit code with a bad file | 0 | 2 |

kcptube does not know the keys marked *own*, and refuses files that have them.
"""

_COLUMNS = "| key | values | default | where | meaning |\n|---|---|---|---|---|\n"

_WHERE = {
    Scope.CLIENT: "client",
    Scope.SERVER: "server",
    Scope.RELAY: "relay",
    Scope.LISTENER: "[listener]",
    Scope.FORWARDER: "[forwarder]",
}


def markdown() -> str:
    """The whole page."""
    parts = [_HEAD]
    for group, keys in groups().items():
        parts.append(f"\n## {group}\n\n{_COLUMNS}")
        parts.extend(_row(key) for key in keys)
    parts.append("\n" + _TAIL)
    parts += [_presets(), _DIFFERENCES]
    return "".join(parts)


def _presets() -> str:
    lines = []
    for name, row in PRESETS.items():
        cells = (name, row.nodelay, row.interval_ms, row.resend, int(row.nc), row.wnd_segments)
        lines.append("| " + " | ".join(map(str, cells)) + " |\n")
    return "".join([*lines, f"| {MANUAL} | kcp_nodelay | kcp_interval | kcp_resend | kcp_nc | 2048 |\n"])


def markdown_chinese() -> str:
    """The whole page in simplified Chinese."""
    parts = [chinese.HEAD]
    for group, keys in groups().items():
        parts.append(f"\n## {CHINESE_GROUPS[group]}\n\n{chinese.COLUMNS}")
        parts.extend(_row_chinese(key) for key in keys)
    parts += ["\n" + chinese.TAIL, _presets(), chinese.DIFFERENCES]
    return "".join(parts)


def _row_chinese(key: Key) -> str:
    words = ZH[key.name]
    meaning = [words.meaning]
    if words.limits:
        whole = words.limits.startswith("{}")
        meaning.append(f"*{words.limits + '。' if whole else chinese.OTHER_VALUES.format(words.limits)}*")
    if words.pending:
        meaning.append(f"*{chinese.PENDING.format(words.pending)}*")
    if key.own:
        meaning.append(f"*{chinese.OWN}*")
    where = chinese.EVERYWHERE
    if key.scopes != frozenset(Scope):
        where = "、".join(text for scope, text in chinese.WHERE.items() if scope in key.scopes)
    cells = (f"`{key.name}`", words.values, words.default_text, where, "".join(meaning))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def groups() -> dict[str, list[Key]]:
    """The keys by heading, in the order of the table."""
    found: dict[str, list[Key]] = {}
    for key in KEYS.values():
        found.setdefault(key.group, []).append(key)
    return found


def where(key: Key) -> str:
    """Where a key may stand, for people."""
    if key.scopes == frozenset(Scope):
        return "everywhere"
    return ", ".join(text for scope, text in _WHERE.items() if scope in key.scopes)


def remarks(key: Key) -> Iterator[str]:
    """Remarks on a key beside its meaning."""
    if key.limits:
        yield (
            f"Other values: {key.limits}."
            if not key.limits.startswith("{}")
            else f"`{key.limits[:2]}`{key.limits[2:]}."
        )
    if key.pending:
        yield f"Checked, but has no effect in this version ({key.pending})."
    if key.own:
        yield "Own key."


def _row(key: Key) -> str:
    meaning = " ".join([key.meaning, *(f"*{text}*" for text in remarks(key))])
    cells = (f"`{key.name}`", key.values, key.default_text, where(key), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        page = Path(argument)
        page.parent.mkdir(exist_ok=True)
        page.write_text(markdown_chinese() if page.parent.name == "zh" else markdown(), encoding="utf-8")
