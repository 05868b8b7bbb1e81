"""When: the stages of a unit's life, in order prepare, deliver, retry."""
