"""The words in which the Retarus-compatible interface refuses (wire note 2.6): sub type, path notation, description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pydantic
from starlette.responses import Response

from depesche.api.rest.problems import MalformedRequestError, error_headers, json_response
from depesche.schemas.errors import (
    DepescheError,
    ForbiddenError,
    ForbiddenSenderError,
    InvalidRequestError,
    Outage,
    OverloadError,
    Refusal,
    TooLargeError,
    UnauthorizedError,
)
from depesche.schemas.identity import new_job_id

_PATTERNS: Final[Mapping[str, tuple[int, str]]] = {
    "MISSING_VALUE": (400, "Missing mandatory value for {}"),
    "INVALID_VALUE": (400, "Invalid value for {}"),
    "INVALID_FORMAT": (400, "Invalid format for {}"),
    "INVALID_SENDER": (400, "Invalid syntax for {}"),
    "FORBIDDEN_SENDER": (403, "Unsupported value for {}"),
    "FORBIDDEN_BY_CONFIG": (403, "Unsupported value for {}"),
    "FORBIDDEN_PARAMS": (403, "Unsupported value for {}"),
}
_MISSING: Final = frozenset({"missing", "missing_content"})
_COUNT: Final = frozenset({"too_long", "too_short"})
_VALUE: Final = frozenset({"empty", "literal_error", "extra_forbidden"})
_BASIC_CHALLENGE = 'Basic realm="depesche", charset="UTF-8"'


class Rejection(Exception):
    """The job is refused as a whole."""

    def __init__(self, status: int, sub_type: str, description: str | None = None) -> None:
        super().__init__(sub_type)
        self.status = status
        self.sub_type = sub_type
        self.description = description


def rejection(sub_type: str, path: str, more: str = "") -> Rejection:
    """The rejection with the table's status and description for a path; ``more`` is put behind a colon."""
    status, pattern = _PATTERNS[sub_type]
    return Rejection(status, sub_type, pattern.format(path) + (f": {more}" if more else ""))


def limit(kind: str, path: str) -> Rejection:
    """``Count`` or ``Size`` limit exceeded for a path."""
    return Rejection(400, "LIMIT_EXCEEDED", f"{kind} limit exceeded for {path}")


def not_available(path: str) -> Rejection:
    """A feature that is planned but not there yet; never silently ignored."""
    return rejection("FORBIDDEN_BY_CONFIG", path, "not available yet")


@contextmanager
def field(path: str, sub_type: str = "INVALID_FORMAT") -> Iterator[None]:
    """Turn the refusal of a value into the rejection of its path."""
    try:
        yield
    except InvalidRequestError:
        raise rejection(sub_type, path) from None


def path_of(location: Sequence[str | int]) -> str:
    """The vendor's dotted notation for a place in the request: singular for the elements of a list, and addresses as
    ``recipients.recipient.email.to.<index>``."""
    steps = list(location)
    for container in ("xHeaders", "headers", "personalization"):
        if container in steps:
            steps = steps[: steps.index(container) + 1]
    if steps[-1:] == ["email"]:
        steps.pop()
    if steps[:1] == ["recipients"]:
        return _recipient_path(steps[2:])
    if steps[:1] == ["attachments"] and len(steps) > 1:
        steps = ["attachments", "attachment", *steps[2:]]
    return _dotted(steps)


def _recipient_path(steps: Sequence[str | int]) -> str:
    if steps[:1] == ["mail"]:
        if len(steps) == 1:
            return "recipients.recipient.email.to"
        if steps[1] in ("to", "cc", "bcc", "replyTo"):
            return _dotted(["recipients", "recipient", "email", *steps[1:]])
    return _dotted(["recipients", "recipient", *steps])


def _dotted(steps: Sequence[str | int]) -> str:
    return ".".join("".join(c for c in str(step)[:80] if c.isprintable()) for step in steps)


_WHOLE: Final[Mapping[str, str]] = {"subject": "subject.content", "mail": "mail.from"}
"""What is named when a whole part is missing."""


def of_validation(fault: pydantic.ValidationError) -> Rejection:
    """The rejection for the first fault that the model found."""
    detail = fault.errors(include_url=False, include_input=False)[0]
    kind, path = detail["type"], path_of(detail["loc"])
    if kind in _MISSING:
        return rejection("MISSING_VALUE", f"{path}.content" if kind == "missing_content" else _WHOLE.get(path, path))
    if kind in _COUNT:
        return limit("Count", path)
    if kind == "string_too_long":
        return limit("Size", path)
    return rejection("INVALID_VALUE" if kind in _VALUE else "INVALID_FORMAT", path or "request")


_PUBLIC = "its public text"
_ERRORS: Final[Sequence[tuple[type[DepescheError], int, str, str | None]]] = (
    (UnauthorizedError, 401, "UNAUTHORIZED", None),
    (MalformedRequestError, 400, "INVALID_JSON_SYNTAX", _PUBLIC),
    (TooLargeError, 413, "LIMIT_EXCEEDED", "Request body size limit exceeded"),
    (OverloadError, 429, "LIMIT_EXCEEDED", _PUBLIC),
    (ForbiddenSenderError, 403, "FORBIDDEN_SENDER", "Unsupported value for mail.from"),
    (ForbiddenError, 403, "FORBIDDEN_BY_CONFIG", _PUBLIC),
    (Refusal, 400, "INVALID_VALUE", _PUBLIC),
    (Outage, 503, "INTERNAL_ERROR", None),
    (DepescheError, 500, "INTERNAL_ERROR", None),
)


def of_error(fault: DepescheError) -> Rejection:
    """The rejection for an error of the tree; the first line that fits counts."""
    status, sub_type, text = next(line[1:] for line in _ERRORS if isinstance(fault, line[0]))
    return Rejection(status, sub_type, fault.public if text is _PUBLIC else text)


def rejected(fault: Rejection, cause: DepescheError | None = None) -> Response:
    """The answer: it has a job id, no time, and a description where the table gives one."""
    state: dict[str, Any] = {"type": "REJECTED", "subType": fault.sub_type, "phase": "PRE_PROCESS"}
    if fault.description is not None:
        state["description"] = fault.description
    answer = json_response({"meta": {"jobId": new_job_id(), "state": state}}, fault.status)
    if cause is not None:
        answer.headers.update(error_headers(cause, _BASIC_CHALLENGE))
    return answer
