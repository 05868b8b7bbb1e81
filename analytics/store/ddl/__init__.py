"""Numbered forward-only steps that build the tables."""
