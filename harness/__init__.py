"""Runs real kcpg processes, through their command line only, and reports what they did."""
