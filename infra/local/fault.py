"""What a local part says when this machine does not let it start: the finding, and what to do about it.

A stranger who types one command should never have to read a stack trace of Kafka or ClickHouse, so every
foreseeable obstacle (a taken port, a damaged jar, a directory in use) is raised as one of these.
"""

from depesche.schemas.errors import SetupError


class LocalFault(SetupError):
    """An obstacle on this machine, with its remedy.

    `finding` and `remedy` are whole sentences in English that hold no secrets; `str()` gives both.
    """

    def __init__(self, finding: str, remedy: str) -> None:
        super().__init__(f"{finding} {remedy}", fix=remedy)
        self.public = finding
        self.finding = finding
        self.remedy = remedy
