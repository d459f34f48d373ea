"""Several processes that share one node: the supervisor and its workers."""
