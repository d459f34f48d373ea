# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""FEC on vectors: the compiled twin of `code`, `group`, `sender`, `receiver` and the counter of `adaptive`.

A group's parity is summed up while its data passes through, when it is in the cache anyway: per parity shard
and data shard one call of a kernel that multiplies and adds with whatever the processor has (GFNI, PSHUFB, or
plain vectors). Rebuilding interpolates from the shards that are there, in the same kernel.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from kcpg.core.kcp._kcp cimport Pool, diff32, pool_free, pool_new, slot_get, slot_put
from kcpg.core.seal._seal cimport REPLAY_WINDOW, REPLAY_WORDS, Replay, ReplayWindow

from kcpg.core.fec import adaptive as plain_adaptive
from kcpg.core.fec import code as plain_code
from kcpg.core.fec.group import GROUP_WAIT_MS

cdef extern from "_gf256.h" nogil:
    ctypedef void (*kcpg_gf_fn)(uint8_t* dst, const uint8_t* src, uint8_t coef, size_t n) noexcept nogil
    uint8_t kcpg_gf_exp[512]
    uint8_t kcpg_gf_log[256]
    uint8_t kcpg_gf_times(uint8_t coef, uint8_t x)
    void kcpg_gf_tables()
    int kcpg_gf_kernels(const char** names, kcpg_gf_fn* functions)

cdef enum:
    KERNELS = 8                 # most kernels that a processor may have

cdef const char* _names[KERNELS]
cdef kcpg_gf_fn _functions[KERNELS]
kcpg_gf_tables()
cdef int _count = kcpg_gf_kernels(_names, _functions)
cdef kcpg_gf_fn multiply_add = _functions[0]


def kernels():
    """Names of the kernels this processor can run, the fastest first; all give the same bytes."""
    return tuple(_names[i].decode() for i in range(_count))


def use_kernel(str name):
    """Take another kernel than the fastest, in a test or a measurement."""
    global multiply_add
    multiply_add = _functions[kernels().index(name)]


include "_code.pxi"
include "_group.pxi"
include "_sender.pxi"
include "_receiver.pxi"
include "_adaptive.pxi"
