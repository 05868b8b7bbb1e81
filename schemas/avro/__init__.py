"""The Avro schema files: the truth about every record in the log. ``schemas.generate`` turns them into classes."""
