"""The handshake: Noise inside an envelope, parameters, cookies, keys.

Tests of what has none of its own name:
    envelope, outcomes, rekey_messages: property/test_handshake.py, unit/test_protocol_vectors.py
"""
