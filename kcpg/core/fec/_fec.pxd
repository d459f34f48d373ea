# cython: language_level=3
"""C interface of the compiled FEC: shards of a group summed up and rebuilt, without allocation per datagram.

Everything here is `noexcept nogil` and touches no Python object. A sender and a receiver take the memory of
shards from a `Pool` that any number of them may share and that bounds them all; one thread at a time per
pool.
`kcpg.core.fec.group` says what groups are. A wire uses them like this:

    sending    fec_tx_data() for each payload, the header it writes in front of it; when it answers 1, and
               when fec_tx_expire() does: fec_tx_parity() until it answers 0
    receiving  fec_rx_data() or fec_rx_parity() for each shard; then, if `fresh`, the payload behind the
               header; then the `rebuilt` chain, which stays until the next call

The module is one translation unit, cut into parts: each stands beside the plain-Python module of the same
stem, its twin, with a `.pxd` that declares what other modules use of it. Docstrings stand where functions are
defined.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from kcpg.core.kcp._kcp cimport Pool
from kcpg.core.seal._seal cimport Replay

include "_code.pxd"
include "_group.pxd"
include "_sender.pxd"
include "_receiver.pxd"
include "_adaptive.pxd"
