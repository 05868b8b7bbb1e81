"""How a stage owns partitions: the completion tracker, the consumer loop, the watchdog."""
