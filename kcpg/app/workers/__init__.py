"""Several processes that share one node: the supervisor and its workers.

Tests of what has none of its own name:
    context, merge: unit/test_workers.py
    handle, supervisor, worker: net/test_workers.py, net/test_running_node.py
"""
