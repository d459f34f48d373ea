"""`kcpg daemon …` as cron calls it: no PATH, no HOME, no terminal, working directory /, standard files
closed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net import processes
from tests.net.test_process_chain import CLIENT, SERVER, write


class Daemons:
    """Daemons of one test, with a state directory of their own; those left at the end are killed."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def do(self, action: str, *words: object) -> subprocess.CompletedProcess[str]:
        """`kcpg daemon ACTION …` with an ordinary environment."""
        return processes.call(self.state, "daemon", action, *words)

    def by_cron(self, *words: object) -> subprocess.CompletedProcess[str]:
        """`kcpg daemon …` with an empty environment, in /, stdin closed; output as cron would mail it.

        The interpreter is named by its full path, as a crontab does; it needs to be told where this source
        tree is, because the tests run it uninstalled.
        """
        code = f"import sys; sys.path.insert(0, {str(processes.ROOT)!r}); sys.argv[0] = 'kcpg'; "
        code += "import runpy; runpy.run_module('kcpg', run_name='__main__')"
        line = ["/usr/bin/env", "-i", f"KCPG_STATE_DIR={self.state}", sys.executable, "-c", code, "daemon"]
        shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *line, *(str(word) for word in words)]
        return subprocess.run(
            shell, cwd="/", env={}, capture_output=True, text=True, timeout=processes.PATIENCE_S,
            start_new_session=True,
        )  # fmt: skip

    def pids(self) -> list[int]:
        """Numbers in the pid files."""
        texts = [file.read_text().strip() for file in self.state.glob("*.pid")]
        return [int(text) for text in texts if text]

    def log(self) -> str:
        """Everything in the log files."""
        return "".join(file.read_text() for file in sorted(self.state.glob("*.log")))


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    """No daemon outlives its test."""
    made = Daemons(tmp_path / "state")
    yield made
    for pid in made.pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A server's configuration file."""
    (tunnel,) = processes.free_ports(1)
    return write(tmp_path, "server.conf", SERVER, listen=tunnel, target=9)


def test_start_status_stop(daemons: Daemons, server: Path) -> None:
    assert daemons.do("status", server).returncode == 1
    started = daemons.do("start", server)
    assert started.returncode == 0, started.stderr
    pid = int(re.search(r"started, pid (\d+)", started.stdout)[1])
    assert "kcpg: ready" in started.stdout
    assert daemons.pids() == [pid]
    again = daemons.do("start", server)
    assert again.returncode == 0 and f"already running, pid {pid}" in again.stdout
    status = daemons.do("status", server)
    assert status.returncode == 0
    assert f"running, pid {pid}, up " in status.stdout and "server server" in status.stdout
    assert daemons.do("status").stdout.startswith("server-")
    stopped = daemons.do("stop", server)
    assert stopped.returncode == 0 and "stopped" in stopped.stdout
    assert daemons.do("status", server).returncode == 1
    again = daemons.do("stop", server)
    assert again.returncode == 1 and f"{server}: not running" in again.stdout, "nothing was stopped"
    assert "ready" in daemons.log() and daemons.log().rstrip().endswith("stopped")
    assert "qwerty" not in daemons.log()


def test_it_is_a_daemon(daemons: Daemons, server: Path) -> None:
    daemons.do("start", server)
    (pid,) = daemons.pids()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    session, terminal = int(fields[3]), int(fields[4])
    assert session not in (pid, os.getsid(0)), "neither a session leader nor in ours"
    assert terminal == 0
    numbers = processes.descriptors(pid)
    for fd in (0, 1, 2):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in numbers]
    assert not [name for name in opened if name.startswith("pipe:") and name in _our_pipes()]
    daemons.do("stop", server)


def _our_pipes() -> set[str]:
    mine = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            mine.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return mine


def test_ensure_by_cron_is_silent_and_starts_once(daemons: Daemons, server: Path) -> None:
    for _ in range(3):
        done = daemons.by_cron("ensure", server)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (pid,) = daemons.pids()
    os.kill(pid, 0)
    assert daemons.log().count("ready, 1 node") == 1
    status = daemons.by_cron("status", server)
    assert status.returncode == 0 and f"pid {pid}" in status.stdout
    os.kill(pid, signal.SIGKILL)
    processes.until(lambda: daemons.by_cron("status", server).returncode == 1, "the lock to be free")
    assert daemons.by_cron("ensure", server).returncode == 0
    assert daemons.pids() != [pid]
    assert daemons.by_cron("stop", server).returncode == 0


def test_ensure_with_every_standard_file_closed(daemons: Daemons, server: Path) -> None:
    words = [sys.executable, "-m", "kcpg", "daemon", "ensure", str(server)]
    shell = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words]
    done = subprocess.run(shell, env=processes.environment(daemons.state), timeout=processes.PATIENCE_S)
    assert done.returncode == 0
    (pid,) = daemons.pids()
    assert processes.descriptors(pid)
    for fd in (0, 1, 2):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    assert daemons.do("stop", server).returncode == 0


def test_several_ensure_at_once_start_one(daemons: Daemons, server: Path) -> None:
    commands = [
        subprocess.Popen(
            processes.command("daemon", "ensure", server),
            env=processes.environment(daemons.state),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(3)
    ]
    outputs = [command.communicate(timeout=processes.PATIENCE_S)[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0, 0], outputs
    assert outputs == [b"", b"", b""]
    assert daemons.log().count("ready, 1 node") == 1
    daemons.do("stop", server)


@pytest.mark.parametrize("how", ["wiped", "another"])
def test_state_files_that_are_gone_hide_no_daemon(daemons: Daemons, server: Path, how: str) -> None:
    """systemd-tmpfiles cleans /tmp; cron and a terminal may have different environments."""
    started = daemons.do("start", server)
    pid = int(re.search(r"started, pid (\d+)", started.stdout)[1])
    try:
        if how == "wiped":
            shutil.rmtree(daemons.state)
        else:
            daemons.state = daemons.state.with_name("another")
        done = daemons.by_cron("ensure", server)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        status = daemons.do("status", server)
        assert status.returncode == 0 and f"running, pid {pid}, up " in status.stdout
        if how == "wiped":
            assert f"pid {pid}" in daemons.do("status").stdout, "without names, too"
        assert "stopped" in daemons.do("stop", server).stdout
        assert daemons.do("status", server).returncode == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_start_failure_is_told_by_the_command(daemons: Daemons, server: Path, tmp_path: Path) -> None:
    assert daemons.do("start", server).returncode == 0
    same_port = tmp_path / "twin.conf"
    same_port.write_text(server.read_text())
    for words in (("start",), ("ensure",)):
        failed = daemons.do(*words, same_port)
        assert failed.returncode == 1
        assert "in use" in failed.stderr and "Traceback" not in failed.stderr
    bad = tmp_path / "bad.conf"
    bad.write_text("mode=server\nlisten_prot=1\n")
    wrong = daemons.do("ensure", bad)
    assert wrong.returncode == 2 and "bad.conf:2" in wrong.stderr
    daemons.do("stop", server)


def test_log_file_of_choice_as_json(daemons: Daemons, server: Path, tmp_path: Path) -> None:
    file = tmp_path / "chosen.log"
    assert daemons.do("start", "--log-file", file, "--log-format=json", server).returncode == 0
    daemons.do("stop", server)
    lines = file.read_text().splitlines()
    assert lines and all(line.startswith('{"time": ') for line in lines)


def test_sighup_reaches_the_daemon(daemons: Daemons, server: Path) -> None:
    daemons.do("start", server)
    (pid,) = daemons.pids()
    os.kill(pid, signal.SIGHUP)
    processes.until(lambda: "nothing has changed" in daemons.log(), "the daemon to read its files again")
    assert daemons.do("stop", server).returncode == 0


def test_client_and_server_in_one_daemon_carry_a_flow(daemons: Daemons, tmp_path: Path) -> None:
    listen, tunnel = processes.free_ports(2)
    with processes.echo() as target:
        client = write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel)
        server = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)
        assert daemons.by_cron("ensure", client, server).returncode == 0
        assert processes.exchange(listen, b"hello") == b"hello"
        assert daemons.by_cron("ensure", server, client).stdout == "", (
            "the order of the files does not matter"
        )
        assert len(daemons.pids()) == 1
        assert daemons.do("stop", server, client).returncode == 0
        assert daemons.pids() == []


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two servers' configuration files, in a directory of their own."""
    directory = tmp_path / "etc"
    directory.mkdir()
    ports = processes.free_ports(2)
    names = ("a.conf", "b.conf")
    return [
        write(directory, name, SERVER, listen=port, target=9) for name, port in zip(names, ports, strict=True)
    ]


def _runs(daemons: Daemons, file: Path) -> bool:
    return daemons.do("status", file).returncode == 0


def test_a_file_is_found_in_whatever_process_runs_it(daemons: Daemons, pair: list[Path]) -> None:
    a, b = pair
    daemons.do("start", a)
    (first,) = daemons.pids()
    both = daemons.do("start", a, b)
    assert both.returncode == 0, both.stderr
    assert f"{a}: already running, pid {first}" in both.stdout and "started" in both.stdout
    assert len(daemons.pids()) == 2, "what ran was left alone"
    assert daemons.do("ensure", b, a).stdout == "" and len(daemons.pids()) == 2
    assert _runs(daemons, a) and _runs(daemons, b)
    stopped = daemons.do("stop", a, b)
    assert stopped.returncode == 0 and stopped.stdout.count("stopped") == 2
    assert daemons.pids() == []


def test_one_file_of_a_process_is_stopped_and_started_again(daemons: Daemons, pair: list[Path]) -> None:
    a, b = pair
    daemons.do("start", a, b)
    (pid,) = daemons.pids()
    stopped = daemons.do("stop", a)
    assert stopped.returncode == 0, stopped.stderr
    assert f"stopped {a}; {b} goes on" in stopped.stdout
    assert daemons.pids() == [pid] and not _runs(daemons, a) and _runs(daemons, b)
    again = daemons.do("stop", a)
    assert again.returncode == 1 and f"pid {pid} runs {b}" in again.stdout, "it names what runs"
    os.kill(pid, signal.SIGHUP)
    assert daemons.do("reload", b).returncode == 0
    assert not _runs(daemons, a), "a reload does not bring it back"
    assert daemons.do("ensure", a, b).returncode == 0
    assert daemons.pids() == [pid] and _runs(daemons, a), "but the command that started it does"
    restarted = daemons.do("restart", a)
    assert restarted.returncode == 0, restarted.stderr
    assert len(daemons.pids()) == 2 and _runs(daemons, a) and _runs(daemons, b)
    assert daemons.do("stop", b, a).returncode == 0
    assert daemons.pids() == []


def test_reload_tells_the_result(daemons: Daemons, server: Path) -> None:
    assert daemons.do("reload", server).returncode == 1, "nothing runs"
    daemons.do("start", server)
    same = daemons.do("reload", server)
    assert same.returncode == 0 and "nothing has changed" in same.stdout
    text = server.read_text()
    server.write_text(text + "max_flows=77\n")
    assert "applied the configuration" in daemons.do("reload", server).stdout
    server.write_text(text + "max_flosw=77\n")
    wrong = daemons.do("reload", server)
    assert wrong.returncode == 1
    assert "kept the old configuration: 1 error" in wrong.stderr and "max_flosw" in wrong.stderr
    assert "max_flosw" in daemons.do("status", server).stdout, "the status tells it until it is mended"
    restart = daemons.do("restart", server)
    assert restart.returncode == 2 and _runs(daemons, server), "a wrong configuration stops nothing"
    daemons.do("stop", server)


def test_a_directory_of_configurations(daemons: Daemons, pair: list[Path]) -> None:
    a, b = pair
    directory = a.parent
    aside = b.rename(b.with_suffix(".off"))
    assert daemons.do("start", directory).returncode == 0
    (pid,) = daemons.pids()
    aside.rename(b)
    assert daemons.do("status", directory).returncode == 1, "one of its files does not run yet"
    done = daemons.by_cron("ensure", directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert daemons.pids() == [pid] and _runs(daemons, b)
    a.unlink()
    assert daemons.do("reload", directory).returncode == 0
    assert not _runs(daemons, a) and _runs(daemons, b)
    assert daemons.do("stop", directory).returncode == 0
    assert daemons.pids() == [] and not list(daemons.state.glob("*.files"))


def test_status_tells_another_password_at_both_ends(daemons: Daemons, tmp_path: Path) -> None:
    tunnel, listen = processes.free_ports(2)
    server = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=9)
    client = write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel)
    client.write_text(client.read_text() + "encryption_password=not the one of the server\n")
    daemons.do("start", client, server)

    def told() -> bool:
        page = processes.call(daemons.state, "status").stdout
        foreign = re.search(r"! [0-9]+ datagrams? since start under another password", page)
        return bool(foreign and re.search(r"! [0-9]+ handshakes? sent, none answered for [0-9]+ s", page))

    processes.until(told, "both ends to say so")
    assert daemons.do("stop", client, server).returncode == 0


def test_status_again_and_again_as_lines_of_json(daemons: Daemons, server: Path) -> None:
    daemons.do("start", server)
    watching = subprocess.Popen(
        processes.command("status", "--watch", "--json", "--interval", "0.1"),
        env=processes.environment(daemons.state), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watching.stdout is not None
        first, second = (json.loads(watching.stdout.readline())[0] for _ in range(2))
        assert first["schema"] == 1 and first["pid"] == second["pid"] and second["at_s"] > first["at_s"]
        watching.send_signal(signal.SIGINT)
        assert watching.communicate(timeout=processes.PATIENCE_S)[1] == "", "Ctrl-C leaves no traceback"
    finally:
        watching.kill()
        watching.communicate()
    daemons.do("stop", server)
