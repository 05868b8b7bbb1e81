"""The front doors: REST and SMTP, and one hallway behind both (``submit``).

Imports run downstairs only: this room may import ``analytics`` and ``schemas``, never ``streams``.
"""
