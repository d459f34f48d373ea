"""The native dialect: the wire protocol kcpg/1 as docs/protocol.md defines it."""
