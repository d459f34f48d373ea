"""The outer ring: configuration, command line, daemon, logs, status.

Tests of what has none of its own name:
    configured: unit/test_config_reference.py
    daemon, lock: unit/test_daemon_files.py, net/test_process_daemon.py
    foreground, terminal, trial: unit/test_cli.py, net/test_process_chain.py
    metrics, run, service: net/test_running_node.py
    observed: unit/test_messages.py
    status_report: unit/test_status.py
    tubes: unit/test_config_dialect.py, unit/test_legs.py
"""
