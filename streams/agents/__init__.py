"""Folds of the log in Faust: state from events, no I/O but awaited sends."""
