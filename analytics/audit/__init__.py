"""The proof that nothing is lost: accepted = finals + in flight, from the log and from ClickHouse, to the unit."""
