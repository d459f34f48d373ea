"""`kcpg keygen --pair`: a private key for a file, and the public one for everybody else."""

from __future__ import annotations

import os
from pathlib import Path

from kcpg.core.native.handshake.keys import format_key
from kcpg.core.native.handshake.noise import PrivateKey
from kcpg.errors import EXIT_OK, KcpgError, UsageError

MODE = 0o600


def pair(file: Path | None) -> int:
    """Print a new pair, or write the private key to a new file and print the public one. Raises KcpgError."""
    private = os.urandom(32)
    public = format_key(PrivateKey(private).public)
    text = f"# A private key of kcpg. Its public key: {public}\n{format_key(private)}\n"
    if file is None:
        print(text, end="")
        return EXIT_OK
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        with os.fdopen(fd, "w", encoding="ascii") as stream:
            stream.write(text)
    except FileExistsError:
        hint = "remove it if nobody needs it any more: dialers know the node by it"
        raise UsageError(f"{file} is there already", hint) from None
    except OSError as error:
        raise KcpgError(f"cannot write {file}: {error.strerror}") from None
    print(public)
    return EXIT_OK
