"""What the store knows of single units, for whoever must say something about them; not a way to search."""
