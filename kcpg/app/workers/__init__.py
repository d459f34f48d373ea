"""Several processes that share one node: the supervisor and its workers.

Tests of what has none of its own name:
    crew, member, worker: net/test_workers.py, net/test_running_node.py
    merge, part: unit/test_workers.py
"""
