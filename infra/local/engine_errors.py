"""Errors of the embedded engine in the form in which ClickHouse's HTTP interface reports them.

Drivers read the number from a header, the name from the end of the text, and decide by the HTTP status whether to try
again; so status, number and text have to be ClickHouse's own, also for what we refuse ourselves.
"""

import re

_CODE = re.compile(r"Code: (\d+)\.")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)\s*(?:\(version [^)]*\))?\s*$")

# Names from ClickHouse's `exceptionCodeToHTTPStatus`; what is not listed there is 500.
_STATUS = {
    "REQUIRED_PASSWORD": 401,
    "AUTHENTICATION_FAILED": 403,
    "BAD_ARGUMENTS": 400,
    "DUPLICATE_COLUMN": 400,
    "ILLEGAL_COLUMN": 400,
    "ILLEGAL_TYPE_OF_ARGUMENT": 400,
    "INCORRECT_DATA": 400,
    "SYNTAX_ERROR": 400,
    "TOO_BIG_AST": 400,
    "TOO_DEEP_AST": 400,
    "TYPE_MISMATCH": 400,
    "UNKNOWN_ELEMENT_IN_AST": 400,
    "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE": 400,
    "NO_ELEMENTS_IN_CONFIG": 404,
    "TIMEOUT_EXCEEDED": 408,
    "QUERY_IS_TOO_LARGE": 413,
    "NOT_IMPLEMENTED": 501,
    "CANNOT_SCHEDULE_TASK": 503,
}
_STATUS_OF_FAMILY = {"CANNOT_PARSE_": 400, "UNKNOWN_": 404}


class EngineError(Exception):
    """A request that failed: ClickHouse's error number, its symbolic name, and the text without the number."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message} ({name})")
        self.code = code
        self.name = name

    @classmethod
    def from_engine(cls, error: Exception) -> "EngineError":
        """Read an exception that chDB raised; what cannot be read becomes 1001 (STD_EXCEPTION) with the whole text."""
        text = str(error)
        found = _CODE.search(text)
        if found is None:
            return cls(1001, "STD_EXCEPTION", text or type(error).__name__)
        text = text[found.start() :].strip()
        name = _NAME.search(text)
        result = cls(int(found.group(1)), name.group(1) if name else "UNKNOWN_EXCEPTION", "")
        result.args = (text,)
        return result

    @property
    def status(self) -> int:
        """The HTTP status with which ClickHouse answers this error."""
        if self.name in _STATUS:
            return _STATUS[self.name]
        for family, status in _STATUS_OF_FAMILY.items():
            if self.name.startswith(family) and self.name != "UNKNOWN_EXCEPTION":
                return status
        return 500
