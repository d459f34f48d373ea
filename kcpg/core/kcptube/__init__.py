"""The kcptube dialect: tunnel legs that speak the wire format of kcptube (github.com/cnbatch/kcptube).

For compatibility only. `LACKS` says what that format lacks in every implementation.

Tests of what has none of its own name:
    dialedlink, dialer, leg, listener, request: sim/test_kcptube_links.py, net/test_process_kcptube.py
    flow, mux: sim/test_kcptube_chain.py
"""

# One sentence for the log, said at every start of such a leg.
LACKS = (
    "its one key is an unsalted hash of the password, for both directions and for ever, and of its 65,536"
    " nonces each comes again soon: an eavesdropper can read the traffic and forge it. There is no forward"
    " secrecy, and no protection against replay but the clock and this end's memory"
)
