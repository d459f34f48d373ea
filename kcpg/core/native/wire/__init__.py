"""The data plane of a leg: open, tell frames apart, feed conversations, seal, batch.

Tests of what has none of its own name:
    linkwire, conv, counters, events, headers, turn, txepoch: unit/test_wire.py, unit/test_wire_turns.py
    flight: sim/test_chain_rate.py, property/test_wire_differential.py
    pathcredit: unit/test_path_proof.py
    linkfec: unit/test_link_fec.py
    rxepoch: unit/test_wire.py, unit/test_link_life.py
"""
