"""The kcptun dialect: tunnel legs that speak the wire format of kcptun (once github.com/xtaci/kcptun).

For compatibility only. `LACKS` says what that format lacks in every implementation.

Tests of what has none of its own name:
    blockciphers: unit/test_kcptun_cipher.py
    dialer, flow, framestream, heldends, leg, listener: sim/test_kcptun_chain.py
"""

# One sentence for the log, said at every start of such a leg.
LACKS = (
    "its one key, derived from the password with a constant salt, serves both directions and all links"
    " for ever: there is no forward secrecy, only aes-128-gcm authenticates anything, and nothing stops"
    " replay but this end's memory. It carries TCP alone, and cannot tell that a connection was aborted"
)
