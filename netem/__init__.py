"""Descriptions of networks (profiles) and the seeded, sans-IO code that behaves like them.

Independent of kcpg.
"""
