"""The dialling leg: its links, their attempts, ports and hops."""
