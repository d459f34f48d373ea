"""The data plane of a leg: open, tell frames apart, feed conversations, seal, batch."""
