"""The error tree. Each error knows its public face, so that both doors answer alike and nothing inner leaks.

    DepescheError
    ├── Refusal                     the caller did something we do not take (5xx / 4xx, never retried as it is)
    │   ├── InvalidRequestError         a value is malformed
    │   ├── MissingValueError           a mandatory value is missing
    │   ├── TooLargeError               the message or body is over the size limit
    │   ├── TooManyError                too many recipients, attachments, headers
    │   ├── UnauthorizedError           no or wrong credentials
    │   ├── ForbiddenSenderError        the sender domain is not registered for this account
    │   ├── ForbiddenError              the credentials do not allow this
    │   ├── NotFoundError               there is no such thing for this tenant
    │   ├── ConflictError               another registration came first
    │   ├── IdempotencyMismatchError    same key, other request
    │   └── NotAvailableError           a feature that does not exist yet
    ├── Outage                      we cannot just now (451 / 503 + Retry-After; the caller keeps the mail)
    │   ├── LogUnavailableError         Kafka does not acknowledge
    │   ├── ArchiveUnavailableError     the archive cannot be written or read
    │   ├── StoreUnavailableError       ClickHouse does not answer
    │   ├── ScannerUnavailableError     no verdict from a scanner
    │   └── OverloadError               over the capacity or a connection limit
    ├── UndecodableError            a record in the log cannot be read (buried with its cause)
    ├── ContentLostError            archived bytes are missing or damaged (final state failed, alarm)
    └── SetupError                  the machine or the configuration is not as needed; says the fix

``public`` is what a stranger may read; the exception's own text is for the log.
"""

from __future__ import annotations

from typing import ClassVar


class DepescheError(Exception):
    """Root of everything we raise on purpose.

    Attributes:
        code: stable name of the error, in problem documents and logs.
        status: HTTP status.
        reply: SMTP reply code.
        enhanced: enhanced status code (RFC 3463).
        retryable: whether the same request may succeed later.
        public: text for strangers, without anything inner.
        pointer: JSON pointer or path of the offending value, if there is one.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    reply: ClassVar[int] = 451
    enhanced: ClassVar[str] = "4.3.0"
    retryable: ClassVar[bool] = True
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str = "", *, public: str | None = None, pointer: str | None = None) -> None:
        super().__init__(detail or public or self.title)
        self.public = public or self.title
        self.pointer = pointer


class Refusal(DepescheError):
    """The request cannot be taken as it is."""

    code = "refused"
    status = 400
    reply = 550
    enhanced = "5.7.1"
    retryable = False
    title = "The request was refused"


class InvalidRequestError(Refusal):
    """A value is malformed."""

    code = "invalid_value"
    status = 422
    reply = 550
    enhanced = "5.6.0"
    title = "A value is not valid"


class MissingValueError(InvalidRequestError):
    """A mandatory value is missing."""

    code = "missing_value"
    title = "A mandatory value is missing"


class TooLargeError(Refusal):
    """The message or request body is over the size limit."""

    code = "too_large"
    status = 413
    reply = 552
    enhanced = "5.3.4"
    title = "The message is larger than 20 MB"


class TooManyError(Refusal):
    """Too many recipients, attachments or headers."""

    code = "limit_exceeded"
    status = 422
    reply = 452
    enhanced = "4.5.3"
    title = "Too many of one thing"


class UnauthorizedError(Refusal):
    """No or wrong credentials; never says which."""

    code = "unauthorized"
    status = 401
    reply = 535
    enhanced = "5.7.8"
    title = "The credentials are missing or wrong"


class ForbiddenSenderError(Refusal):
    """The sender domain is not registered for this account."""

    code = "forbidden_sender"
    status = 403
    reply = 550
    enhanced = "5.7.1"
    title = "This sender is not registered for your account"


class ForbiddenError(Refusal):
    """The credentials do not allow this."""

    code = "forbidden"
    status = 403
    title = "These credentials do not allow this"


class NotFoundError(Refusal):
    """There is no such thing for this tenant."""

    code = "not_found"
    status = 404
    title = "There is no such thing, or it has expired"


class ConflictError(Refusal):
    """Another registration came first."""

    code = "conflict"
    status = 409
    title = "Somebody registered this first"


class IdempotencyMismatchError(Refusal):
    """The idempotency key was used with another request."""

    code = "idempotency_mismatch"
    status = 422
    title = "This Idempotency-Key belongs to a different request"


class NotAvailableError(Refusal):
    """A feature that is planned but does not exist yet; never silently ignored."""

    code = "not_available_yet"
    status = 501
    reply = 554
    enhanced = "5.3.3"
    title = "This feature is not available yet"


class Outage(DepescheError):
    """We cannot do it just now; the caller keeps the mail and tries again."""

    code = "outage"
    status = 503
    title = "We cannot take this just now; please try again"


class LogUnavailableError(Outage):
    """Kafka did not acknowledge in time."""

    code = "log_unavailable"


class ArchiveUnavailableError(Outage):
    """The archive cannot be written or read."""

    code = "archive_unavailable"
    reply = 452
    enhanced = "4.3.1"


class StoreUnavailableError(Outage):
    """ClickHouse does not answer."""

    code = "store_unavailable"
    title = "Search is not available just now; mail is not affected"


class ScannerUnavailableError(Outage):
    """A scanner gave no verdict; the mail waits, it never passes unscanned."""

    code = "scanner_unavailable"


class OverloadError(Outage):
    """Over a capacity or connection limit."""

    code = "overload"
    status = 429
    reply = 451
    enhanced = "4.7.0"
    title = "Too much at once; please slow down"


class UndecodableError(DepescheError):
    """A record in the log cannot be read; it is buried with its cause."""

    code = "undecodable"
    retryable = False


class ContentLostError(DepescheError):
    """Archived bytes are missing, damaged, or their key was erased."""

    code = "content_lost"
    retryable = False


class SetupError(DepescheError):
    """The machine or the configuration is not as needed. ``fix`` says in one sentence how to mend it."""

    code = "setup"
    retryable = False

    def __init__(self, detail: str, *, fix: str) -> None:
        super().__init__(detail, public=detail)
        self.fix = fix
