"""The log: how Kafka is spoken to, in one place (producers, consumers, set-up of the topics)."""
