"""KCP: the reliable half of the protocol, one conversation at a time.

Tests of what has none of its own name:
    cwnd: unit/test_kcp_timing.py, sim/test_kcp_course.py
    datagrams, kcp: unit/test_kcp_stream.py, property/test_kcp_differential.py, interop/test_kcp_ikcp.py
    facts: property/test_kcp_differential.py
    receiver: unit/test_kcp_stream.py, unit/test_kcp_unordered.py, unit/test_kcp_window.py
    sender, sendqueue, sent: unit/test_kcp_recovery.py, unit/test_kcp_timing.py, unit/test_kcp_hurry.py
"""
