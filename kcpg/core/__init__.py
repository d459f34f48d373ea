"""The protocol, sans-IO: no socket, greenlet, clock, randomness or logging.

Time (`now_ms`), entropy and rng are arguments.
"""
