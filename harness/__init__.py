"""Runs real kcpg processes, through their command line only, and tells what they did."""
