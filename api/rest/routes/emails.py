"""Emails: send one, and see what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request
from starlette.responses import Response

from depesche.analytics.directory.things import Principal
from depesche.analytics.queries.grammar import Query, Term
from depesche.analytics.queries.results import Page, rfc3339
from depesche.analytics.queries.search import MAX_LIMIT, Search
from depesche.analytics.queries.timeline import Timeline
from depesche.analytics.queries.values import job_id, time_of, unit_id
from depesche.api.rest.bodies import held_json, off_loop, require_json_type, validated
from depesche.api.rest.cursors import Cursor, Limit, next_link
from depesche.api.rest.deps import by_bearer, client_address, tools_of
from depesche.api.rest.idempotency_key import fingerprint, idempotency_key
from depesche.api.rest.models_native import EmailAccepted, EmailRequest
from depesche.api.rest.models_search import Stories, UnitPage
from depesche.api.rest.native import Caller, Prepared, prepare
from depesche.api.rest.openapi import Examples, body_of, problems
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import MalformedRequestError, UnsupportedMediaTypeError, json_response
from depesche.api.rest.reading import ASKING, Reader, scope_of, store_of
from depesche.api.rest.recent import Recent
from depesche.api.rest.submitting import submitted, suppressed_for
from depesche.api.rest.tools import Tools
from depesche.api.submission import Receipt
from depesche.schemas.errors import (
    ArchiveUnavailableError,
    ForbiddenError,
    ForbiddenSenderError,
    IdempotencyMismatchError,
    InvalidRequestError,
    LogUnavailableError,
    MissingValueError,
    NotAvailableError,
    NotFoundError,
    OverloadError,
    StoreUnavailableError,
    TooLargeError,
    TooManyError,
    UnauthorizedError,
)
from depesche.schemas.vocabulary import DROP_REASON

PATH = "/v1/emails"
_JOB = "019bbf0e-7c00-7a1b-8c2d-3e4f5a6b7c8d"
EXAMPLES: Examples = {
    "text": (
        "A text",
        {
            "from": "Shop <news@shop.example>",
            "to": ["Ada Example <ada@example.org>"],
            "subject": "Your parcel is on its way",
            "text": "Hello Ada,\n\nit will be with you tomorrow.\n",
        },
    ),
    "everything": (
        "HTML with a picture, a file and references",
        {
            "from": {"email": "news@shop.example", "name": "Shop"},
            "to": [{"email": "ada@example.org", "name": "Ada Example"}],
            "cc": ["cc@example.org"],
            "bcc": ["bcc@example.org"],
            "reply_to": ["service@shop.example"],
            "subject": "Your invoice",
            "text": "Hello Ada, your invoice is attached.",
            "html": '<p>Hello Ada</p><img src="cid:logo">',
            "headers": {"X-Order": "4711"},
            "attachments": [
                {
                    "filename": "logo.png",
                    "content_type": "image/png",
                    "content": "iVBORw0KGgo=",
                    "content_id": "logo",
                },
                {"filename": "invoice.pdf", "content_type": "application/pdf", "content": "JVBERi0xLjQK"},
            ],
            "reference": "order-4711",
            "campaign_id": "spring",
            "cost_center": "cc-9",
            "list_unsubscribe": "https://shop.example/unsubscribe/4711",
        },
    ),
}
EmailId = Annotated[
    str, Path(alias="id", max_length=1000, description="Id of a job or unit, or a Message-ID.", examples=[_JOB])
]
_IDEMPOTENCY = (
    "Makes it safe to ask again: the same key with the same body gives the first answer, with "
    "`Idempotent-Replayed: true`, and sends nothing; with another body it is an error. Kept for 24 hours."
)


_SEND: dict[str, Any] = {
    "status_code": 202,
    "response_description": "We have it for good; follow `Location` to see what becomes of it.",
    "openapi_extra": body_of(EmailRequest, EXAMPLES),
    "responses": problems(
        MalformedRequestError,
        UnauthorizedError,
        ForbiddenError,
        ForbiddenSenderError,
        TooLargeError,
        UnsupportedMediaTypeError,
        InvalidRequestError,
        MissingValueError,
        TooManyError,
        IdempotencyMismatchError,
        OverloadError,
        NotAvailableError,
        LogUnavailableError,
        ArchiveUnavailableError,
    ),
}


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, pages = PATH + "/{id}", ("limit", "cursor")
    operations = (
        Operation("POST", PATH, send_email, "sendEmail", "Send an email", EmailAccepted, _SEND),
        Operation("GET", one, show, "getEmail", "Show where an email stands", UnitPage, ASKING, pages),
        Operation("GET", f"{one}/events", events, "listEmailEvents", "Tell an email's story", Stories, ASKING),
    )
    add_operations(router, "emails", operations)


async def send_email(
    request: Request,
    principal: Annotated[Principal, Depends(by_bearer("send"))],
    idempotency_key_: Annotated[str | None, Header(alias="Idempotency-Key", description=_IDEMPOTENCY)] = None,
) -> Response:
    """Takes one email for one or many recipients.

    A recipient that is not valid does not refuse the others: it is listed in the answer with its reason.
    """
    require_json_type(request)
    tools, key = tools_of(request), idempotency_key(request)
    async with held_json(request, tools.settings.rest.max_body, request.app.state.budget) as body:
        caller = Caller(principal, client_address(request))
        prepared = await off_loop(body.octets, lambda: _prepared(tools, caller, key, body.content))
        receipt = await submitted(request, prepared.submission, body.read_at)
    headers = {"Location": f"{PATH}/{receipt.job_id}"}
    if receipt.replayed:
        headers["Idempotent_Replayed"] = "true"
    return json_response(_accepted(receipt, prepared), 202, **headers)


async def show(request: Request, principal: Reader, id_: EmailId, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Where the units of a job stand, or one unit, or whatever has a Message-ID. What was just sent may be told from memory."""
    wanted = id_.strip()
    named = job_id(wanted) or unit_id(wanted)
    query = Query(Term("id", wanted), since=time_of(named) if named else None)
    recent: Recent = request.app.state.recent
    try:
        found = await Search(store_of(request)).find(scope_of(principal), query, limit, cursor)
    except StoreUnavailableError:
        found = Page(recent.units(principal.tenant, wanted), None)
        if not found.items:
            raise
    if not found.items and cursor is None:
        found = Page(recent.units(principal.tenant, wanted), None)
    if not found.items:
        raise NotFoundError("no such email")
    return next_link(request, json_response(found.to_json()), found.next_cursor)


async def events(request: Request, principal: Reader, id_: EmailId) -> Response:
    """Every event of a unit, of all units of a job, or of whatever has a Message-ID, in order."""
    stories = await Timeline(store_of(request)).of(scope_of(principal), id_, MAX_LIMIT)
    if not stories:
        raise NotFoundError("no such email")
    return json_response({"data": [one.to_json() for one in stories], "has_more": len(stories) == MAX_LIMIT})


def _prepared(tools: Tools, caller: Caller, key: str | None, content: object) -> Prepared:
    request = validated(EmailRequest, content)
    suppressed = suppressed_for(tools, caller.principal.tenant)
    prepared = prepare(request, tools.directory, caller, tools.settings.smtp.max_size, suppressed)
    if key is None:
        return prepared
    keyed = replace(prepared.submission, idempotency_key=key, fingerprint=fingerprint("sendEmail", content))
    return replace(prepared, submission=keyed)


def _accepted(receipt: Receipt, prepared: Prepared) -> Mapping[str, Any]:
    units = [
        {
            "id": unit,
            "to": recipient.address,
            "kind": recipient.kind.value,
            "refused": {"code": recipient.reason.value, "detail": DROP_REASON[recipient.reason][1]}
            if recipient.reason
            else None,
        }
        for unit, recipient in zip(receipt.unit_ids, prepared.recipients, strict=True)
    ]
    return {"id": receipt.job_id, "received_at": rfc3339(receipt.received_at), "units": units}
