"""Descriptions of networks (profiles), and seeded, sans-IO code that behaves like them.

Independent of kcpg.
"""
