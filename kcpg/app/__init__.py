"""The outer ring: configuration, command line, daemon, logs, status.

Tests of what has none of its own name:
    control, daemon, instances, lock: unit/test_daemon_files.py, net/test_process_daemon.py
    about, foreground, parsers, terminal, trial: unit/test_cli.py, net/test_process_chain.py
    adhoc, invitation: unit/test_init.py
    legsettings_kcptube, legsettings_native: unit/test_legsettings.py, unit/test_config_dialect.py
    legsettings_kcptun: unit/test_config_dialect.py
    usagereport: net/test_account.py
    keygen: unit/test_usercommand.py
    rootkeys: unit/test_config_users.py
    logoptions: unit/test_logs.py, unit/test_cli.py
    foreignlegs: net/test_process_kcptube.py, net/test_process_kcptun.py
    linksummary: unit/test_messages.py
    metrics, run, service: net/test_running_node.py, net/test_status_schema.py
    httpserver: net/test_prometheus.py
    top: unit/test_topfigures.py
    asking, descriptors, status_report, troubles, wording: unit/test_status.py
"""
