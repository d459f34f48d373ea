"""Speed tests: flows that a node answers itself, and the end that measures by them.

Defined in docs/protocol.md, section 4.4.

Tests of what has none of its own name:
    answers, asker: sim/test_speedtest.py
"""
