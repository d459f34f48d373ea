"""The handshake: Noise inside an envelope, parameters, cookies, keys."""
