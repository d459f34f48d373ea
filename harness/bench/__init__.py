"""`make bench`: tunnels side by side, over the same lines, in the same run. See docs/benchmark.md."""
