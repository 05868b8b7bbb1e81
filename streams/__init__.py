"""The workshop: the stages that move mail, the Faust agents that learn from it, the craft and the wires outward.

Imports run downstairs only: this room may import ``analytics`` and ``schemas``, never ``api``.
"""
