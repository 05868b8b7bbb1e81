"""The ``depesche`` command: one file per noun."""
