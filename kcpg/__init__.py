"""kcpg carries TCP and UDP through an encrypted, retransmitting UDP tunnel (KCP)."""

__version__ = "0.1.0"
