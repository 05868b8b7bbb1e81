"""The pace in force, for whoever must obey it or look at it."""
