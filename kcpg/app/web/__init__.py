"""The page that `web_listen` serves: what `kcpg top` shows, and plots of the last hour. It only reads.

Tests of what has none of its own name:
    application, history: net/test_web.py
"""
