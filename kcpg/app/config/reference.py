"""The table of keys as a page for people: `docs/configuration.md`. A test keeps the two the same.

`python -m kcpg.app.config.reference docs/configuration.md` writes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from kcpg.app.config.keys import KEYS, Key, Scope
from kcpg.app.config.presets import MANUAL, PRESETS

_HEAD = """\
# Configuration

<!-- Made from kcpg/app/config/keys.py by: python -m kcpg.app.config.reference docs/configuration.md -->

A file describes one node. Several files on one command line are several nodes in one process. `kcpg
--check-config FILE…` says everything that is wrong with them, each with file, line, key, reason and a
hint; `kcpg help config KEY` explains one key.

```
mode=client
listen_port=59000
destination_address=203.0.113.7
destination_port=3000-3010
encryption_algorithm=AES-GCM
encryption_password=the secret both ends share
```

## Grammar

- One `key=value` per line, split at the first `=`. Blanks around key and value do not count; keys may be
  in any case.
- Empty lines and lines that begin with `#` do not count. There are no comments behind a value: in free
  text (passwords, paths) they are part of it, elsewhere they are left out; both give a warning.
- A key without a value does not count (warning). A key that is set twice: the last one counts (warning);
  `mode` twice is an error. `{}` and an ordinary value in two lines hold both.
- An unknown key, section or value is an error; nothing is ignored silently.
- Numbers are decimal. As in kcptube, leading digits count and the rest is ignored, with a warning:
  `300MM` is `300M`.
- Bandwidths are bits per second; `K M G` are powers of 1024, `k m g` powers of 1000, `1000` is 1000
  bit/s.
- Port lists: `3000`, `3000-3010`, `3000-3010,4000`. Lists are sorted; what is there twice counts once.
- Addresses: IPv4, IPv6 (brackets allowed, `%zone` for link-local ones) or names.
- The text may be UTF-8, with or without byte order mark, with line ends of any system. A password is the
  bytes between the blanks, in whatever encoding the file has; both ends must have the same bytes.

## Sections

A relay has two, both required: `[listener]` towards the client, `[forwarder]` towards the server. Keys
whose *where* below says *relay* or *everywhere* may stand outside of them, above the first, and then
**override** the same key inside both; of `ipv4_only` and `ipv6_only` only a yes does. Where an overridden
line says something else there is a warning.

A client may have `[custom_input]`, `[custom_input_tcp]` and `[custom_input_udp]`, with lines such as

```
127.0.0.1:13389 -> 203.0.113.9:3389
:5000-5010 -> [::1]:6000-6010
```

They are switched on by `listen_port={}`, beside an ordinary `listen_port` or alone, and need a server with
`destination_port={}`, where `allow_targets` limits what clients may choose. A range maps to a range that is
as long, or to one port; a relay passes targets on by itself.

## A server behind a NAT

Where the address of a server changes, or a router in front of it gives it another port, it can find out and
tell by itself:

```
listen_port=3000
stun_server=stun.example.org
update_ipv4=/usr/local/bin/publish
log_path=/var/log/kcpg
```

The program is called with the address, for example `publish 203.0.113.7:41000`, once after the start and
once for every change, and may put it into a DNS TXT record. Clients and relays find it there:

```
destination_dnstxt=tunnel.example.org
```

```
tunnel.example.org.  60  IN  TXT  "203.0.113.7:41000"
```

Every string of every TXT record that has this form, or `[2001:db8::7]:3000`, is an address of the same node;
other strings do not count (warning). The record is looked up at start, when the link is silent, and as often
as its TTL says, but not more than every 30 s nor less than every hour. A link that works stays where it is. A
failed look-up keeps the address there was. The router must let peers in that the server did not call: a NAT
that opens a port for the STUN server alone cannot be helped by this, a forwarded port can.

## A relay's udp_timeout

A relay must not forget a UDP flow before the client and the server do. It waits for the largest
`udp_timeout` it knows of, plus 5 seconds: its own ones, and those of a client and a server on the same
command line. An end that is not there is taken to have the default. There is a warning when the relay's
own value is less than that.
"""

_TAIL = """\
## KCP presets

| kcp | nodelay | interval ms | resend | nc | windows |
|---|---|---|---|---|---|
"""

_DIFFERENCES = """
`auto`, which the examples use, finds rate and windows by measurement: nothing has to be configured. This end
then sends as fast as the path delivers, keeps its queues short, and is not slowed down by loss;
`outbound_bandwidth` and `inbound_bandwidth` stay upper limits, and the windows above, or `kcp_sndwnd` and
`kcp_rcvwnd`, are what they may grow to. It concerns what this end sends: set it at both.
The other rows send as much as their window holds at whatever rate, or at the rate of `outbound_bandwidth`.

## Where this differs from kcptube

kcptube's files are accepted. Where kcptube's program does not do what its documentation says, the
documentation holds:

| | kcptube's program | here |
|---|---|---|
| `ipv4_only=0`, `ipv6_only=no` | switches the restriction on | both address families |
| `outbound_bandwidth=1000` | 100 bit/s: the last digit is lost | 1000 bit/s |
| a port range that ends in 65535 | hangs | works |
| `mtu` and `kcp_mtu` both set | `mtu` counts | `kcp_mtu` counts (warning) |
| `kcp_mtu` | KCP's own, 22 bytes less than the datagram | the content of the UDP datagram |
| `blast` | on by default; without it data waits for the next tick | data leaves at once in any case |
| names in `listen_on` | refused at start | resolved |
| `kcp=manual` outside the sections | its numbers are not copied | they are |
| `encryption_algorithm` missing, password set | nothing is encrypted | AES-GCM; with `dialect=kcptube` an \
error |
| `mux_tunnels` missing | 0 | 1; with `dialect=kcptube` 0 |
| `encryption_algorithm=none` outside, a cipher inside a section | does not override | error |
| `on`, `off` for yes and no | both mean no | error with a hint |
| `1.5G`, `0x10` | 1G, 0 | error with a hint |
| unknown key without value | ignored | error |
| exit code with a bad file | 0 | 2 |

Keys marked *own* are not known to kcptube, and it refuses files that have them.
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
    for name, row in PRESETS.items():
        cells = (name, row.nodelay, row.interval_ms, row.resend, int(row.nc), row.wnd_segments)
        parts.append("| " + " | ".join(map(str, cells)) + " |\n")
    parts.append(f"| {MANUAL} | kcp_nodelay | kcp_interval | kcp_resend | kcp_nc | 2048 |\n")
    parts.append(_DIFFERENCES)
    return "".join(parts)


def groups() -> dict[str, list[Key]]:
    """The keys under their headings, in the order of the table."""
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
    """What there is to say about a key beside its meaning."""
    if key.limits:
        yield (
            f"Other values: {key.limits}."
            if not key.limits.startswith("{}")
            else f"`{key.limits[:2]}`{key.limits[2:]}."
        )
    if key.pending:
        yield f"Checked, but without effect in this version ({key.pending})."
    if key.own:
        yield "Own key."


def _row(key: Key) -> str:
    meaning = " ".join([key.meaning, *(f"*{text}*" for text in remarks(key))])
    cells = (f"`{key.name}`", key.values, key.default_text, where(key), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
