"""When the conversations of a wire must have a turn: a binary heap of their deadlines. Included by _wire.pyx.

Its twin is kcpg/core/timers.py, which both dialects use. Here every entry knows where its conversation keeps
its place, so that a deadline is moved where it stands, and nothing goes out of date.
"""


cdef int timers_reserve(timers_t* t) except -1:
    """Room for one more conversation; nothing else here can fail."""
    cdef uint32_t room
    cdef timer_t* grown
    if t.convs == t.room:
        room = 2 * t.room if t.room > 0 else 16
        grown = <timer_t*>realloc(t.heap, room * sizeof(timer_t))
        if grown == NULL:
            raise MemoryError()
        t.heap = grown
        t.room = room
    t.convs += 1
    return 0


cdef inline bint timer_before(const timer_t* a, const timer_t* b) noexcept:
    """The earlier one; among equals the one that was set first."""
    return a.due_ms < b.due_ms or (a.due_ms == b.due_ms and a.order < b.order)


cdef inline void timer_put(timers_t* t, int at, timer_t entry) noexcept:
    """Put an entry at a place of the heap, and tell its conversation."""
    t.heap[at] = entry
    entry.place[0] = at


cdef void timer_settle(timers_t* t, int at, timer_t entry) noexcept:
    """Put an entry where it belongs, beginning at a place that is free."""
    cdef int other
    while at > 0 and timer_before(&entry, &t.heap[(at - 1) // 2]):
        timer_put(t, at, t.heap[(at - 1) // 2])
        at = (at - 1) // 2
    while 2 * at + 1 < t.count:
        other = 2 * at + 1
        if other + 1 < t.count and timer_before(&t.heap[other + 1], &t.heap[other]):
            other += 1
        if not timer_before(&t.heap[other], &entry):
            break
        timer_put(t, at, t.heap[other])
        at = other
    timer_put(t, at, entry)


cdef void timer_set(timers_t* t, Conv conv, int64_t due_ms) noexcept:
    """Give this conversation a turn then, instead of whenever it was to have one; -1: not at all."""
    cdef timer_t entry
    cdef int at = conv.timer
    if due_ms < 0:
        timer_remove(t, conv)
        return
    if at < 0:
        at = t.count
        t.count += 1
    elif t.heap[at].due_ms == due_ms:
        return
    t.order += 1
    entry.due_ms = due_ms
    entry.order = t.order
    entry.place = &conv.timer
    entry.conv = <PyObject*>conv
    timer_settle(t, at, entry)


cdef void timer_remove(timers_t* t, Conv conv) noexcept:
    """Give this conversation no turn."""
    cdef int at = conv.timer
    if at < 0:
        return
    conv.timer = -1
    t.count -= 1
    if at < t.count:
        timer_settle(t, at, t.heap[t.count])
