"""ClickHouse: its tables, how they come about, and the sink that fills them from the log."""
