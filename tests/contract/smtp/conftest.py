"""The door's fixtures; see ``bench``."""

from tests.contract.smtp.bench import door, door_maker

__all__ = ["door", "door_maker"]
