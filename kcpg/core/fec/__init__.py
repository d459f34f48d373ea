"""Forward error correction: the erasure code, its groups, how much redundancy is worth it.

Tests of what has none of its own name:
    group, receiver, sender: unit/test_fec_groups.py, property/test_fec_groups.py
    plan: unit/test_fec_adaptive.py
"""
