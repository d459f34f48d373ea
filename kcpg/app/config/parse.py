"""From lines to values: looks keys up in the table, follows sections, reports every mistake with its line."""

from __future__ import annotations

import re
from pathlib import Path

from kcpg.app.config import lex, presets
from kcpg.app.config.addresses import PORTS_MAX, mapping_line
from kcpg.app.config.keys import KEYS, SECTIONS, Key, Scope
from kcpg.app.config.lex import Line, Shape
from kcpg.app.config.model import Mapping, Role
from kcpg.app.config.raw import MappingLine, Options, RawFile
from kcpg.app.config.report import Report
from kcpg.app.config.values import VERBATIM, BadValue, Remarks, narrow, suggest

_SECTION_SCOPE = {"listener": Scope.LISTENER, "forwarder": Scope.FORWARDER}
_ROLE_SCOPE = {Role.CLIENT: Scope.CLIENT, Role.SERVER: Scope.SERVER, Role.RELAY: Scope.RELAY}

_WIDE_SECRET = "has fullwidth characters, which were read as plain ones"

# Words that a message may show. A broken line may hold half a secret, so a message never shows longer ones.
_SHOWN = re.compile(r"[a-z_][a-z0-9_ .-]{0,29}\Z")


def parse(name: str, data: bytes, base: Path, report: Report) -> RawFile:
    """Read one file. Problems go to the report; returns everything that could be read."""
    raw = RawFile(name, base)
    try:
        found = lex.lines(data)
    except lex.LexError as error:
        report.error(0, "", str(error))
        return raw
    raw.role = _mode(found, report)
    reader = _Reader(raw, report)
    for line in found:
        reader.take(line)
    return raw


def _mode(found: list[Line], report: Report) -> Role | None:
    """The role. `mode` may stand anywhere, so look for it first."""
    lines = [line for line in found if line.shape is Shape.OPTION and line.name == "mode" and line.text]
    if not lines:
        is_relay = any(line.shape is Shape.SECTION and SECTIONS.get(line.name) == "relay" for line in found)
        hint = "mode=relay" if is_relay else "mode=client, mode=relay or mode=server"
        report.error(0, "mode", "is not set" if found else "is not set: the file is empty", hint)
        return None
    for line in lines[1:]:
        report.error(line.number, "mode", f"is set twice; line {lines[0].number} has the first")
    remarks: Remarks = []
    try:
        value = KEYS["mode"].parse(lines[0].text, remarks)
    except BadValue as bad:
        report.error(lines[0].number, "mode", bad.reason, bad.hint)
        return None
    for remark in remarks:
        report.warning(lines[0].number, "mode", remark)
    return Role(value)


class _Reader:
    """Follows the sections of one file."""

    def __init__(self, raw: RawFile, report: Report) -> None:
        self._raw = raw
        self._report = report
        # None: it is unknown where values belong, so they are only checked.
        self._scope = _ROLE_SCOPE[raw.role] if raw.role else None
        self._custom: tuple[bool, bool] | None = None  # (tcp, udp) inside a [custom_input…] section

    def take(self, line: Line) -> None:
        match line.shape:
            case Shape.SECTION:
                self._section(line)
            case Shape.OPTION:
                self._option(line)
            case Shape.MAPPING:
                self._mapping(line)
            case Shape.OTHER:
                self._other(line)

    def _section(self, line: Line) -> None:
        tag = f"[{_shown(line.name)}]"
        if line.text:
            self._report.warning(
                line.number, tag, "a comment must stand on a line of its own; this one is ignored"
            )
        mode = SECTIONS.get(line.name)
        self._custom = None
        if mode is None:
            near = suggest(line.name.strip(), SECTIONS)
            hint = near.replace("'", "'[", 1).replace("'?", "]'?") if near else _sections_of(self._raw.role)
            self._report.error(line.number, tag, "unknown section", hint)
            self._scope = None
            return
        if self._raw.role is not None and self._raw.role.value != mode:
            reason = f"belongs to mode={mode}, but this is mode={self._raw.role.value}"
            self._report.error(line.number, tag, reason)
        elif line.name in _SECTION_SCOPE:
            self._enter(_SECTION_SCOPE[line.name])
        elif self._raw.role is not None:
            self._raw.custom_line = self._raw.custom_line or line.number
        if mode == "client":
            self._custom = (line.name != "custom_input_udp", line.name != "custom_input_tcp")

    def _enter(self, scope: Scope) -> None:
        if self._raw.role is None:
            return
        self._scope = scope
        if scope is Scope.LISTENER:
            self._raw.listener = self._raw.listener or Options()
        else:
            self._raw.forwarder = self._raw.forwarder or Options()

    def _option(self, line: Line) -> None:
        key = KEYS.get(line.name)
        if key is None:
            is_mapping = line.text.startswith(">")  # `:90 => host:80`
            hint = "a mapping stands below [custom_input]" if is_mapping else _key_hint(line.name)
            self._report.error(line.number, _shown(line.name), "unknown key", hint)
        elif not line.text:
            self._report.warning(line.number, key.name, "has no value; the line is ignored")
        elif key.name != "mode":
            self._value(key, line)

    def _value(self, key: Key, line: Line) -> None:
        remarks: Remarks = []
        value: object = None
        bad: BadValue | None = None
        text = line.text if key.parse in VERBATIM else narrow(line.text)
        if text != line.text:
            remarks.append(f"has fullwidth characters; read as '{text}'" if not key.secret else _WIDE_SECRET)
        try:
            value = key.parse(text, remarks)
        except BadValue as error:
            bad = error
            hint = "write the value without quotes" if _is_quoted(text) else error.hint
            self._report.error(line.number, key.name, error.reason, hint)
        else:
            if _is_quoted(text):
                remarks.append("the quotes are part of the value: nothing here needs any")
        for remark in remarks:
            self._report.warning(line.number, key.name, remark)
        neutral = bad is None and key.default is not None and value == key.default
        options = self._options_for(key, line.number, neutral)
        if options is None:
            return
        if bad is not None:
            options.put_bad(key.name, line.number)
            return
        replaced = options.put(key.name, value, line.number)
        if replaced:
            self._report.warning(line.number, key.name, f"is set again and replaces line {replaced}")

    def _options_for(self, key: Key, line: int, neutral: bool) -> Options | None:
        """The options that a value of this key belongs to; None where it has no effect."""
        scope = self._scope
        if scope is None:
            return None
        if scope in key.scopes:
            return self._options(scope)
        if key.whole_node:
            self._report.warning(line, key.name, "applies to the whole node, not to this section alone")
            return self._raw.outside
        if not neutral:
            self._misplaced(key, line, scope)
        return None

    def _misplaced(self, key: Key, line: int, scope: Scope) -> None:
        sections = [f"[{p.value}]" for p in (Scope.LISTENER, Scope.FORWARDER) if p in key.scopes]
        in_relay = scope in (Scope.RELAY, Scope.LISTENER, Scope.FORWARDER)
        hint = f"it belongs in {' or '.join(sections)}" if in_relay and sections else ""
        if in_relay and (scope is Scope.RELAY or key.group == "Addresses") and sections:
            where = "outside the sections" if scope is Scope.RELAY else f"in [{scope.value}]"
            self._report.error(line, key.name, f"is not allowed {where}", hint)
        elif key.name == "mux_tunnels" and scope is Scope.SERVER:
            self._report.error(
                line, key.name, "only a client may have it", "the client decides how many paths there are"
            )
        else:
            where = f"[{scope.value}]" if scope in _SECTION_SCOPE.values() else f"mode={scope.value}"
            self._report.warning(line, key.name, f"has no effect in {where}", hint)

    def _options(self, scope: Scope) -> Options:
        if scope is Scope.LISTENER and self._raw.listener is not None:
            return self._raw.listener
        if scope is Scope.FORWARDER and self._raw.forwarder is not None:
            return self._raw.forwarder
        return self._raw.outside

    def _mapping(self, line: Line) -> None:
        if self._custom is None:
            hint = "mappings belong in a client's [custom_input], [custom_input_tcp] or [custom_input_udp]"
            self._report.error(
                line.number, "", "this line looks like a mapping, but is not in a section for mappings", hint
            )
            return
        self._raw.mapping_lines += 1
        remarks: Remarks = []
        try:
            if (text := narrow(line.text)) != line.text:
                remarks.append(f"has fullwidth characters; read as '{text}'")
            found = mapping_line(text, *self._custom, remarks)
        except BadValue as bad:
            self._report.error(line.number, "mapping", bad.reason, bad.hint)
            return
        for remark in remarks:
            self._report.warning(line.number, "mapping", remark)
        if len(self._raw.mappings) + 2 * len(found) > 2 * PORTS_MAX:
            self._report.error(line.number, "mapping", f"there are more than {PORTS_MAX} mapped ports")
            return
        for mapping in found:
            self._keep(mapping, line.number)

    def _keep(self, mapping: Mapping, line: int) -> None:
        for protocol in ["tcp"] * mapping.tcp + ["udp"] * mapping.udp:
            listening = (mapping.listen_address, mapping.listen_port, protocol)
            old = self._raw.mappings.get(listening)
            if old is not None and old.mapping != mapping:
                reason = f"maps port {mapping.listen_port} again and replaces line {old.line}"
                self._report.warning(line, "mapping", reason)
            self._raw.mappings[listening] = MappingLine(mapping, line)

    def _other(self, line: Line) -> None:
        """A line that is neither an option, a mapping nor a section. It is not shown: it may hold a
        secret."""
        word = re.split(r"[\s:=]", line.text, maxsplit=1)[0].lower()
        if word in KEYS:
            self._report.error(line.number, word, "has no '='", f"write {word}=…")
        elif word.strip("[]") in SECTIONS:
            self._report.error(line.number, "", "this is not a section", f"write [{word.strip('[]')}]")
        else:
            self._report.error(
                line.number, "", "this is neither key=value nor [section]", "a comment begins with #"
            )


def _shown(word: str) -> str:
    return word if _SHOWN.match(word) else ""


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def _key_hint(word: str) -> str:
    if word.strip("[]") in SECTIONS:
        return f"a section is written [{word.strip('[]')}]"
    if not word:
        return "there is no key before '='"
    strange = [char for char in word if not char.isascii()]
    if strange:
        return f"it contains the character U+{ord(strange[0]):04X}; retype the key"
    if word in presets.OLD_KEYS:
        return f"kcptube's old name of {presets.OLD_KEYS[word]}; kcpg convert FILE rewrites the file"
    return suggest(word, KEYS) or "see kcpg help config"


def _sections_of(role: Role | None) -> str:
    names = [f"[{name}]" for name, mode in SECTIONS.items() if role is not None and mode == role.value]
    return "one of " + ", ".join(names) if names else "this mode has no sections" if role else ""
