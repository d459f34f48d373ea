"""The native dialect: the wire protocol kcpg/1 as docs/protocol.md defines it.

Tests of what has none of its own name:
    leg, listener: unit/test_link.py, sim/test_chain.py
    linkshares: unit/test_link_shares.py
"""
