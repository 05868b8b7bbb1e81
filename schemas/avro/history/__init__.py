"""Every schema that was ever written with, whole, by record name and id: what today's readers must still be able to read."""
