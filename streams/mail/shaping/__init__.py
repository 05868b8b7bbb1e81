"""Shaping: how each provider likes to be sent to, as data: limits, ladder, TLS, and what to do about its answers."""
