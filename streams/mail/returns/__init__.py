"""What: reading mail that comes back in any other form than the standard one: finding whom it is about and why."""
