"""The declared final shape of each table; a test replays ``ddl/`` against it."""
