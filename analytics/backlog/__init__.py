"""The backlog: which units wait where, how long, why and until when, counted from the log itself."""
