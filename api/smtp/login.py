"""SASL PLAIN (RFC 4616) and LOGIN as messages, and whether whoever they name may use this door."""

from __future__ import annotations

import base64
import binascii
import ipaddress

from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.things import Principal
from depesche.api.smtp.commands import SMTPRefusal
from depesche.schemas.errors import UnauthorizedError
from depesche.schemas.records import Interface

MAX_RESPONSE = 12288
"""Octets of a line during AUTH (RFC 4954 4)."""


def decoded(response: str | bytes) -> str:
    """The text in a base64 response; ``=`` stands for an empty one (RFC 4954 4).

    Raises:
        SMTPRefusal: 501 5.7.0 the client gave up with ``*``, 501 5.5.2 not base64.
    """
    raw = response.encode() if isinstance(response, str) else response
    if raw == b"*":
        raise SMTPRefusal(501, "5.7.0", "Authentication cancelled")
    try:
        return "" if raw == b"=" else base64.b64decode(raw, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as fault:
        raise SMTPRefusal(501, "5.5.2", "That is not base64") from fault


def plain_credentials(response: str) -> tuple[str, str]:
    """User and password of a PLAIN message.

    Raises:
        SMTPRefusal: 501 5.5.2 not of three parts, or it asks to act as somebody else.
    """
    parts = response.split("\0")
    if len(parts) != 3 or parts[0] not in ("", parts[1]):
        raise SMTPRefusal(501, "5.5.2", "That is not a PLAIN message")
    return parts[1], parts[2]


def log_in(directory: Directory, user: str, password: str, source: str) -> Principal:
    """Who logs in with ``user`` and ``password`` from the address ``source``.

    Raises:
        UnauthorizedError: nobody, or the account may not send through this door or from this address; never says which.
    """
    return _admitted(directory, directory.login(user, password), source)


def by_source(directory: Directory, source: str) -> Principal | None:
    """Who needs no password because the address ``source`` is registered as login; usually nobody."""
    principal = directory.by_source_ip(source)
    try:
        return None if principal is None else _admitted(directory, principal, source)
    except UnauthorizedError:
        return None


def _admitted(directory: Directory, principal: Principal, source: str) -> Principal:
    found = directory.book.account(principal.account)
    if found is None or not principal.may("send"):
        raise UnauthorizedError("no account that may send")
    account = found[1]
    if account.interfaces and Interface.SMTP not in account.interfaces:
        raise UnauthorizedError("the account is not for SMTP")
    if account.source_ips and source not in {_canonical(text) for text in account.source_ips}:
        raise UnauthorizedError("the account may not be used from this address")
    return principal


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
