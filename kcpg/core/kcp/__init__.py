"""KCP: the reliable half of the protocol, one conversation at a time."""
