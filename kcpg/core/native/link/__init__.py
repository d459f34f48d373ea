"""One link: epochs, liveness, path MTU, rekey, and the flows it carries.

Tests of what has none of its own name:
    cids: unit/test_workerslot.py
    convflow, flowtable: unit/test_link_flows.py
    epochs, rekey, setup, state: unit/test_link_life.py, property/test_handshake.py
    liveness: unit/test_link_life.py, sim/test_chain_return.py
    open_message: property/test_native_properties.py, unit/test_link_flows.py
    pathmtu: sim/test_path_mtu.py
    pathproof: unit/test_path_proof.py
    quality: unit/test_hopping.py
"""
