"""Reads configuration files and reports all of their problems at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from kcpg.app.config import across, kcptunfile
from kcpg.app.config.build import build
from kcpg.app.config.check import check
from kcpg.app.config.lex import FILE_BYTES_MAX
from kcpg.app.config.model import Loaded, NodeConfig, Problem
from kcpg.app.config.parse import parse
from kcpg.app.config.passwords import is_readable_by_others, reason_of
from kcpg.app.config.raw import RawFile
from kcpg.app.config.report import Report


def load(paths: Iterable[Path]) -> Loaded:
    """The nodes of these files and all of their problems. A missing or wrong file raises nothing.

    Relative paths in a file: `encryption_password_file` is relative to the file's directory, `log_path` to
    the working directory.
    """
    sources: list[tuple[str, Path, bytes | None]] = []
    unreadable: dict[int, str] = {}
    open_to_others: set[int] = set()
    for index, path in enumerate(paths):
        try:
            with open(path, "rb") as file:
                data: bytes | None = file.read(FILE_BYTES_MAX + 1)
                if is_readable_by_others(file.fileno()):
                    open_to_others.add(index)
        except (OSError, ValueError) as error:
            data, unreadable[index] = None, reason_of(error)
        sources.append((str(path), path.parent, data))
    return _load(sources, unreadable, open_to_others)


def load_text(name: str, text: str | bytes) -> Loaded:
    """Like load(), for one file in memory."""
    return load_texts({name: text})


def load_texts(files: Mapping[str, str | bytes]) -> Loaded:
    """Like load(), for files in memory: name and content. Their paths are relative to the working
    directory."""
    sources: list[tuple[str, Path, bytes | None]] = [
        (name, Path(), text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
        for name, text in files.items()
    ]
    return _load(sources, {}, set())


def _load(
    sources: list[tuple[str, Path, bytes | None]], unreadable: dict[int, str], open_to_others: set[int]
) -> Loaded:
    raws: list[RawFile] = []
    reports: list[Report] = []
    for index, (name, base, data) in enumerate(sources):
        report = Report(name)
        reports.append(report)
        if data is None:
            report.error(0, "", f"the file cannot be read: {unreadable[index]}")
            raws.append(RawFile(name, base))
            continue
        if kcptunfile.is_json(data):
            translated = kcptunfile.translate(data[:FILE_BYTES_MAX], report)
            data, report.lines = translated.text.encode(), translated.lines
            if report.failed:
                raws.append(RawFile(name, base))
                continue
        raws.append(parse(name, data, base, report))
        raws[-1].readable_by_others = index in open_to_others
        check(raws[-1], report)
    across.check_ports(raws, reports)
    across.check_loops(raws, reports)
    across.check_timeouts(raws, reports)
    across.check_users(raws, reports)
    every = [one for raw, report in zip(raws, reports, strict=True) for one in (report, *raw.reports)]
    problems: list[Problem] = [problem for report in every for problem in report.sorted()]
    return Loaded(tuple(_nodes(raws, reports)), tuple(problems))


def _nodes(raws: list[RawFile], reports: list[Report]) -> list[NodeConfig]:
    ends_s = across.ends_timeout_s(raws)
    names: set[str] = set()
    nodes = []
    for raw, report in zip(raws, reports, strict=True):
        if report.failed:
            continue
        nodes.append(build(raw, _unused(_name(raw), names), ends_s))
    return nodes


def _name(raw: RawFile) -> str:
    return raw.outside.get("name", str) or Path(raw.name).stem or "node"


def _unused(stem: str, names: set[str]) -> str:
    name, number = stem, 1
    while name in names:
        number += 1
        name = f"{stem}-{number}"
    names.add(name)
    return name
