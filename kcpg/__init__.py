"""kcpg carries TCP and UDP through an encrypted, retransmitting UDP tunnel (KCP).

Tests of what has none of its own name:
    engine: tidy/test_engines.py, unit/test_cli.py
    errors: unit/test_cli.py
"""

__version__ = "0.2.0"
