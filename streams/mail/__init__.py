"""What: the craft of mail as pure functions, no broker, no socket, no clock."""
