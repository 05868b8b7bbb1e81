"""A scripted SMTP sink: takes every mail, remembers it as ground truth, and misbehaves exactly as it is asked to."""
