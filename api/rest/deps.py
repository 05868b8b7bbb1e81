"""Who is calling, from where, and whether they may: taken from the credential and the connection, never from the request."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from depesche.analytics.directory.things import Principal
from depesche.api.rest.problems import Fault, InvalidFieldsError
from depesche.api.rest.tools import Tools
from depesche.schemas.errors import ForbiddenError, UnauthorizedError
from depesche.schemas.records import CredentialUse, Interface

_MAX_AUTHORIZATION = 512

bearer_scheme = HTTPBearer(
    scheme_name="apiKey", description="An API key: `Authorization: Bearer dp_live_…`.", auto_error=False
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]


def tools_of(request: Request) -> Tools:
    """The tools of the application that serves ``request``."""
    tools: Tools = request.app.state.tools
    return tools


def client_address(request: Request) -> str:
    """The address of the submitting machine (threat 15 of the reliability note).

    ``X-Real-IP`` counts only when the connection comes from one of our own proxies and the field is there once; everybody
    else is who the connection says.
    """
    peer = _address(request.client.host if request.client else "")
    proxies = {_address(text) for text in tools_of(request).settings.rest.trusted_proxies}
    if peer not in proxies:
        return peer
    said = request.headers.getlist("x-real-ip")
    return _address(said[0]) or peer if len(said) == 1 else peer


def _address(text: str) -> str:
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def admitted(request: Request, principal: Principal) -> Principal:
    """``principal``, if its account may use this door from where it calls.

    Raises:
        ForbiddenError: the account is bound to another door, or to other addresses (wire note 2.2).
    """
    if principal.use is CredentialUse.OPERATOR:
        return principal
    found = tools_of(request).directory.book.account(principal.account)
    if found is None:
        raise UnauthorizedError("account gone")
    account = found[1]
    if account.interfaces and Interface.REST not in account.interfaces:
        raise ForbiddenError("interface", public="This account may not use REST")
    if account.source_ips and client_address(request) not in {_address(text) for text in account.source_ips}:
        raise ForbiddenError("source address", public="This account may not be used from your address")
    return principal


def by_bearer(scope: str) -> Callable[[Request, Bearer], Awaitable[Principal]]:
    """A dependency: the holder of the bearer key, who must be allowed ``scope`` (send, read, manage)."""

    async def who(request: Request, credentials: Bearer) -> Principal:
        token = credentials.credentials if credentials else ""
        if not token or len(token) > _MAX_AUTHORIZATION:
            raise UnauthorizedError("no bearer token")
        principal = admitted(request, tools_of(request).directory.bearer(token))
        if not principal.may(scope):
            raise ForbiddenError(f"scope {scope}", public=f"This key is not allowed to {scope}")
        return principal

    return who


def by_login(request: Request) -> Principal:
    """The holder of the user and password in HTTP Basic (RFC 7617).

    Raises:
        UnauthorizedError: none, malformed or wrong.
        ForbiddenError: see ``admitted``; also when the key is not for sending.
    """
    scheme, _, encoded = request.headers.get("authorization", "")[:_MAX_AUTHORIZATION].partition(" ")
    try:
        user, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise UnauthorizedError("malformed Basic") from None
    if scheme.lower() != "basic" or not colon:
        raise UnauthorizedError("no Basic")
    principal = admitted(request, tools_of(request).directory.login(user, secret))
    if not principal.may("send"):
        raise ForbiddenError("scope send", public="This login is not allowed to send")
    return principal


def only_query(*names: str) -> Callable[[Request], None]:
    """A dependency that refuses query parameters other than ``names``: a misspelled one must not be silently ignored."""

    def check(request: Request) -> None:
        unknown = [name for name in request.query_params if name not in names]
        if unknown:
            faults = [Fault(name[:80], "unknown_key", f"{name[:80]!r} is not a parameter here") for name in unknown]
            raise InvalidFieldsError(faults[:20])

    return check
