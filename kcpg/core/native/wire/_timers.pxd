"""See kcpg/core/timers.py. Included by _wire.pxd."""


cdef struct timer_t:
    int64_t due_ms
    uint64_t order                  # among equals the first that was set
    int* place                      # where its conversation keeps the place of this entry
    PyObject* conv                  # borrowed: a conversation that closes or goes takes its entry along


cdef struct timers_t:
    timer_t* heap
    int count
    uint32_t room
    uint32_t convs                  # conversations that may have an entry
    uint64_t order
