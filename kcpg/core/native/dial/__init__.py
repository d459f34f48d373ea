"""The dialling leg: its links, their attempts, ports and hops.

Tests of what has none of its own name:
    attempt, pathchoice, penaltybox: unit/test_hopping.py
    dialedlink, dialstate, dialer: unit/test_link_life.py, sim/test_hopping.py, sim/test_paths.py
    sourceports: sim/test_hopping.py
"""
