"""Emails: send one, and see what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from depesche.analytics.directory.things import Principal
from depesche.api.rest.bodies import held_json, off_loop, require_json_type, validated
from depesche.api.rest.deps import by_bearer, client_address, tools_of
from depesche.api.rest.idempotency_key import fingerprint, idempotency_key
from depesche.api.rest.models_native import EmailAccepted, EmailRequest
from depesche.api.rest.native import Caller, Prepared, prepare
from depesche.api.rest.openapi import Examples, body_of, problems
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import MalformedRequestError, UnsupportedMediaTypeError, json_response
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
    OverloadError,
    TooLargeError,
    TooManyError,
    UnauthorizedError,
)
from depesche.schemas.vocabulary import DROP_REASON

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
    operations = (Operation("POST", "/v1/emails", send_email, "sendEmail", "Send an email", EmailAccepted, _SEND),)
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
        receipt = await tools.hallway.submit(prepared.submission)
    headers = {"Location": f"/v1/emails/{receipt.job_id}"}
    if receipt.replayed:
        headers["Idempotent_Replayed"] = "true"
    return json_response(_accepted(receipt, prepared), 202, **headers)


def _prepared(tools: Tools, caller: Caller, key: str | None, content: object) -> Prepared:
    request = validated(EmailRequest, content)
    prepared = prepare(request, tools.directory, caller, tools.settings.smtp.max_size)
    if key is None:
        return prepared
    keyed = replace(prepared.submission, idempotency_key=key, fingerprint=fingerprint("sendEmail", content))
    return replace(prepared, submission=keyed)


def _accepted(receipt: Receipt, prepared: Prepared) -> Mapping[str, Any]:
    units = [
        {
            "id": unit_id,
            "to": recipient.address,
            "kind": recipient.kind.value,
            "refused": {"code": recipient.reason.value, "detail": DROP_REASON[recipient.reason][1]}
            if recipient.reason
            else None,
        }
        for unit_id, recipient in zip(receipt.unit_ids, prepared.recipients, strict=True)
    ]
    return {"id": receipt.job_id, "received_at": rfc3339(receipt.received_at), "units": units}


def rfc3339(milliseconds: int) -> str:
    """A time as the API writes it: UTC, milliseconds, Z."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"
