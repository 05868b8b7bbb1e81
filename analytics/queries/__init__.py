"""Questions to ClickHouse, each scoped to one tenant: search, timeline, rates."""
