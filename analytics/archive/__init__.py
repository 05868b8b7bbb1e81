"""Message bodies at rest: append-only segments with group commit, sealed with one data key per tenant and day."""
