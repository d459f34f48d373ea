"""Many clients at one node: what they cost it, and how they come back after it was away."""
