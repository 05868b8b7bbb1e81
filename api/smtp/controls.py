"""The control headers of the SMTP interface (wire note section 3): read, checked, and not part of what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from depesche.api.smtp.fields import Field, readable
from depesche.schemas.errors import InvalidRequestError, NotAvailableError
from depesche.schemas.records import NotificationEndpoint

PREFIX = "x-retarus-m4a-"
IDEMPOTENCY = "x-idempotency-key"
MAX_LABEL = 50
MAX_URL = 1000
MAX_PUSH_HEADERS = 1000
MAX_CREDENTIAL = 100
MAX_IDEMPOTENCY = 255
_LATER = {"trace-recover-active": "Trace & Recover", "message-signing-active": "Message signing (S/MIME)"}
_KNOWN = frozenset(
    {
        "notification-url",
        "notification-header",
        "notification-auth-method",
        "notification-auth-user",
        "notification-auth-password",
        "reference",
        "campaign-id",
        "cost-center",
        "antivirus-active",
        *_LATER,
    }
)
_REPEATABLE = frozenset({"notification-header"})
_BOOLEAN = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Controls:
    """What the customer asked for in control headers; nothing where a header is missing."""

    reference: str | None = None
    campaign_id: str | None = None
    cost_center: str | None = None
    notification: NotificationEndpoint | None = None
    idempotency_key: str | None = None


NONE = Controls()


def is_control(field: Field) -> bool:
    """Whether ``field`` is for us and must not leave the house."""
    return field.name.startswith(PREFIX) or field.name == IDEMPOTENCY


def controls(fields: Sequence[Field]) -> Controls:
    """What the control headers among ``fields`` say.

    ``ANTIVIRUS-ACTIVE`` may be given either way; scanning is always on.

    Raises:
        InvalidRequestError: a value is malformed, too long, given twice, or push details are incomplete.
        NotAvailableError: a feature that does not exist yet is asked for.
    """
    ours = [field for field in fields if is_control(field)]
    if not ours:
        return NONE
    values: dict[str, list[str]] = {}
    for field in ours:
        name = field.name.removeprefix(PREFIX)
        if name not in _KNOWN and field.name != IDEMPOTENCY:
            raise NotAvailableError("control header", public=f"The control header {field.name} is not known here")
        values.setdefault(name, []).append(readable(field.value))
    for name, given in values.items():
        if len(given) > 1 and name not in _REPEATABLE:
            raise _invalid(name, "may appear only once")
    _refuse_later(values)
    return Controls(
        reference=_text(values, "reference", MAX_LABEL),
        campaign_id=_text(values, "campaign-id", MAX_LABEL),
        cost_center=_text(values, "cost-center", MAX_LABEL),
        notification=_notification(values),
        idempotency_key=_text(values, IDEMPOTENCY, MAX_IDEMPOTENCY),
    )


def _refuse_later(values: dict[str, list[str]]) -> None:
    for name in ("antivirus-active", *_LATER):
        if name not in values:
            continue
        wanted = _BOOLEAN.get(values[name][0].lower())
        if wanted is None:
            raise _invalid(name, "must be true or false")
        if wanted and name in _LATER:
            raise NotAvailableError(name, public=f"{_LATER[name]} is not available yet")


def _text(values: dict[str, list[str]], name: str, limit: int) -> str | None:
    if name not in values:
        return None
    text = values[name][0]
    if not text or len(text) > limit:
        raise _invalid(name, f"must have 1 to {limit} characters")
    return text


def _notification(values: dict[str, list[str]]) -> NotificationEndpoint | None:
    """The push endpoint: complete when anything of it is given at all."""
    if not any(name.startswith("notification-") for name in values):
        return None
    url = _text(values, "notification-url", MAX_URL)
    if url is None:
        raise _invalid("notification-url", "is missing; push details must be complete")
    if not _is_web_address(url):
        raise _invalid("notification-url", "must be an http or https address")
    method = values.get("notification-auth-method", [""])[0]
    user = _text(values, "notification-auth-user", MAX_CREDENTIAL)
    password = _text(values, "notification-auth-password", MAX_CREDENTIAL)
    if method and method.upper() != "BASIC":
        raise _invalid("notification-auth-method", "must be BASIC")
    if bool(method) != (user is not None) or bool(method) != (password is not None):
        raise _invalid("notification-auth-method", "needs user and password, and they need it")
    return NotificationEndpoint(url=url, headers=_push_headers(values), user=user, password=password)


def _push_headers(values: dict[str, list[str]]) -> dict[str, str]:
    given = values.get("notification-header", [])
    if sum(map(len, given)) > MAX_PUSH_HEADERS:
        raise _invalid("notification-header", f"must have at most {MAX_PUSH_HEADERS} characters in all")
    headers: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals or not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise _invalid("notification-header", "must have the form key=value")
        if name.lower() in {known.lower() for known in headers}:
            raise _invalid("notification-header", "must not name a key twice")
        headers[name] = value.strip()
    return headers


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        return False


def _invalid(name: str, why: str) -> InvalidRequestError:
    shown = name if name == IDEMPOTENCY else PREFIX + name
    return InvalidRequestError(f"control header {name}", public=f"{shown.upper()} {why}")
