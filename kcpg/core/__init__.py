"""The protocol, sans-IO: no socket, greenlet, clock, randomness or logging.

Time (`now_ms`), entropy and rng are arguments.

Tests of what has none of its own name:
    congestion: unit/test_link_congestion.py
    env: sim/test_chain.py
    flow, node: sim/test_forwarder.py, unit/test_splice.py
    pacer: property/test_native_properties.py, unit/test_kcp_timing.py
    plainleg, plainwire: sim/test_kcptube_chain.py, sim/test_kcptun_chain.py
    replaycache: property/test_kcptube_properties.py, property/test_kcptun_differential.py
    units: unit/test_kcp_rebuilt.py
    words: property/test_native_properties.py, unit/test_frames.py
"""
