"""The two ways to make a cable behave like a profile: the kernel's netem, and the link box in user space.

NETEM_BACKEND selects one: `netem`, `box`, or `auto` (netem if the kernel has it and tc can express the
profile, else the box).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.netns import Lab, Namespace
from harness.process import Failed, Program
from netem import tc
from netem.profile import Impair, Profile
from netem.write import to_toml

BACKENDS = ("auto", "netem", "box")
ANSWER_S = 5.0  # How long the link box may take to answer; it answers between two frames


@dataclass(frozen=True)
class Side:
    """One end of a cable."""

    namespace: Namespace
    device: str


class Backend(Protocol):
    """A cable under a profile. `near` sends by the profile's up."""

    name: str
    captures: Path | None  # Directory of a.pcap and b.pcap

    def change(self, profile: Profile) -> None:
        """Change to this profile."""

    def restart(self, seed: str, at_ns: int = 0) -> None:
        """Reset the counters and, where there are seeds, restart the pattern from its first packet.

        `at_ns`: since the beginning of a line's timeline; netem has none.
        """

    def facts(self) -> dict[str, dict[str, Any]]:
        """For "up" and "down": frames (that came), sent, bytes, drops (by reason)."""

    def close(self) -> None:
        """End its processes; the interfaces go with their namespaces."""


def choose(profile: Profile, wanted: str | None = None) -> str:
    """`netem` or `box` for this profile. Raises Failed, with the reason, if it is not available."""
    wanted = wanted or os.environ.get("NETEM_BACKEND", "auto")
    if wanted not in BACKENDS:
        raise Failed(f"NETEM_BACKEND must be one of {', '.join(BACKENDS)}, not {wanted!r}")
    reasons = [*tc.unsupported(profile.up), *tc.unsupported(profile.down)]
    if wanted == "box" or (wanted == "auto" and reasons):
        return "box"
    kernel = tc.probe()
    if wanted == "auto":
        return "netem" if kernel.netem else "box"
    if reasons:
        raise Failed(f"profile {profile.name} needs the link box: {'; '.join(dict.fromkeys(reasons))}")
    if not kernel.netem:
        raise Failed(f"this kernel has no netem: {kernel.reason}")
    return "netem"


class Netem:
    """netem on the outgoing side of both ends of a veth pair."""

    name = "netem"
    captures: Path | None = None

    def __init__(self, lab: Lab, near: Side, far: Side, profile: Profile, seed: str) -> None:
        self._lab, self._sides = lab, {"up": near, "down": far}
        self._profile = profile
        self._seed = seed
        for way, side, impair in self._ways(profile):
            self._run(side, tc.add_commands(side.device, impair, way, self._number(way)))
        self._check()

    def change(self, profile: Profile) -> None:
        for (way, side, new), (_, _, old) in zip(self._ways(profile), self._ways(self._profile), strict=True):
            self._run(side, tc.update_commands(side.device, old, new, way, self._number(way)))
        self._profile = profile
        self._check()

    def restart(self, seed: str, at_ns: int = 0) -> None:
        assert not at_ns, "a line with a timeline is never netem's"
        self._seed = seed
        for way, side, impair in self._ways(self._profile):
            self._run(side, tc.clear_commands(side.device))
            self._run(side, tc.add_commands(side.device, impair, way, self._number(way)))

    def facts(self) -> dict[str, dict[str, Any]]:
        found = {}
        for way, side in self._sides.items():
            show = ["tc", "-n", side.namespace.name, "-s", "-j", "qdisc", "show", "dev", side.device, "root"]
            root = json.loads(tc.run(show))[0]
            sent, drops = int(root["packets"]), int(root["drops"])
            # netem counts deliberate losses and those of a full queue together.
            found[way] = {
                "frames": sent + drops,
                "sent": sent,
                "sent_bytes": int(root["bytes"]),
                "drops": {"loss": drops},
            }
        return found

    def close(self) -> None:
        """The kernel takes the qdiscs away with the interfaces."""

    def _ways(self, profile: Profile) -> list[tuple[str, Side, Impair]]:
        return [("up", self._sides["up"], profile.up), ("down", self._sides["down"], profile.down)]

    def _number(self, way: str) -> int | None:
        """The seed as an argument of tc, if this tc supports seeds."""
        if not tc.probe().seed:
            return None
        digits = re.sub(r"\D", "", self._seed)
        return (int(digits or "1") * 2 + (way == "down")) % (1 << 63)

    def _run(self, side: Side, commands: list[list[str]]) -> None:
        batch = "\n".join(shlex.join(words[1:]) for words in commands) + "\n"
        self._lab.run(["tc", "-n", side.namespace.name, "-batch", "-"], batch)

    def _check(self) -> None:
        for _, side, impair in self._ways(self._profile):
            shown, classes = tc.read_back(side.device, side.namespace.name)
            wrong = tc.differences(impair, shown, classes)
            if wrong:
                raise Failed(f"tc shows other settings than requested on {side.device}: {'; '.join(wrong)}")


class Box:
    """A link box between two TAP interfaces; it runs in a namespace of its own, which has no interface."""

    name = "box"

    def __init__(
        self, lab: Lab, near: Side, far: Side, profile: Profile, seed: str, capture: bool = False
    ) -> None:
        self._seed = seed
        room = lab.add("box")
        stem = lab.directory / f"box-{room.name}"
        self._control, self._asking = stem.with_suffix(".sock"), stem.with_suffix(".ask")
        first = stem.with_suffix(".toml")
        first.write_text(to_toml(profile), encoding="utf-8")
        self.captures: Path | None = stem if capture else None
        words = [sys.executable, "-m", "netem.box", "--profile", str(first), "--seed", seed]
        words += ["--control", str(self._control)]
        for option, side in (("--a", near), ("--b", far)):
            words += [option, f"{side.namespace.name}:{side.device}"]
        if capture:
            words += ["--captures", str(stem)]
        lab.note(shlex.join(room.command(words)))
        self._program = Program("link box", room.command(words), stem.with_suffix(".log"))
        self._lock = threading.Lock()
        try:
            self.ready = self._program.wait_for(r"^netem\.box: ready .*").group()
        except BaseException:
            self._program.stop()
            raise

    def change(self, profile: Profile) -> None:
        self._ask({"do": "change", "profile": to_toml(profile)})

    def restart(self, seed: str, at_ns: int = 0) -> None:
        self._ask({"do": "restart", "seed": seed, "at_ns": at_ns})

    def facts(self) -> dict[str, dict[str, Any]]:
        answer = self._ask({"do": "facts"})
        return {"up": answer["up"], "down": answer["down"]}

    def close(self) -> None:
        self._program.stop()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        with self._lock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            # A name in the file system: the kernel's own (abstract) ones do not cross namespaces.
            asking.bind(str(self._asking))
            asking.settimeout(ANSWER_S)
            try:
                asking.sendto(json.dumps(command).encode(), str(self._control))
                answer: dict[str, Any] = json.loads(asking.recv(65536))
            except OSError as error:
                raise Failed(f"the link box does not answer: {error}") from None
            finally:
                self._asking.unlink(missing_ok=True)
        if "error" in answer:
            raise Failed(f"the link box refused {command['do']}: {answer['error']}")
        return answer


def open_cable(
    lab: Lab, sides: tuple[Side, Side], profile: Profile, seed: str, backend: str | None, capture: bool
) -> Callable[[], Backend]:
    """Create the two interfaces (near, far), down and without addresses; returns a function that starts the
    impairment.

    It is to be called last, when the interfaces have their MTU, which the box then reads. Raises Failed.
    """
    near, far = sides
    if choose(profile, backend) == "netem":
        lab.veth(near.namespace, near.device, far.namespace, far.device)
        return lambda: Netem(lab, near, far, profile, seed)
    if not Path("/dev/net/tun").exists():
        raise Failed("the link box needs /dev/net/tun")
    for side in sides:
        lab.tap(side.namespace, side.device)
    return lambda: Box(lab, near, far, profile, seed, capture)
