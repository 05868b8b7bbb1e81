"""What is watched, and told to a person when it changes: rates against their limits, own addresses against blocklists."""
