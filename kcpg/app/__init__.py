"""The outer ring: configuration, command line, daemon, logs, status."""
