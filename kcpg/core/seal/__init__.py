"""Encryption of datagrams: AEAD, header masks, memory against replay."""
