"""The face of a compiled wire: `kcpg.net.udp.DatagramWire`, and what C calls."""

class DatagramWire:
    tx_cursor: int
    def coalesce_ms(self, now_ms: int) -> int: ...
