"""Forward error correction: the erasure code, its groups, how much redundancy is worth it."""
