"""Errors that are shown to a person, with their exit codes.

Bytes from the network never raise one of these: they become counted drops. These errors are about what a
person typed, wrote into a configuration file, or must change on the machine.
"""

from __future__ import annotations

EXIT_OK = 0  # Done, or already running
EXIT_FAILURE = 1  # Something failed at run time: a port in use, a destination that does not answer
EXIT_USAGE = 2  # The command line or a configuration file is wrong


class KcpgError(Exception):
    """A failure with a message for a person; the process ends with `exit_code`."""

    exit_code = EXIT_FAILURE

    def __init__(self, message: str, hint: str = "") -> None:
        """`message` says in one line what is wrong, `hint` (may be empty) what to do about it."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message and its hint, as the command line prints them."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class StartError(KcpgError):
    """A node cannot start: port in use, address not on this machine, no permission."""


class UsageError(KcpgError):
    """The command line makes no sense."""

    exit_code = EXIT_USAGE


class ConfigurationError(KcpgError):
    """The configuration is unusable; every problem has been listed before."""

    exit_code = EXIT_USAGE
