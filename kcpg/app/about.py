"""The facts that a bug report or a measurement should begin with."""

from __future__ import annotations

from kcpg import __version__


def print_version() -> None:
    """Print the version, the engine and the libraries that encrypt."""
    from kcpg import built, engine

    print(f"kcpg {__version__}")
    if (problem := built.stale()) is not None:
        print(f"NOT AS WRITTEN: {problem}")
    print(f"engine: {engine.ENGINE}")
    for algorithm, library in engine.cipher_libraries().items():
        print(f"{algorithm}: {library}")
