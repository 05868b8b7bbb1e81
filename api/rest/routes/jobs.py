"""Jobs: the Retarus-compatible interface. Its answers, errors included, are in the vendor's words and shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pydantic
from fastapi import APIRouter, Request
from starlette.responses import Response

from depesche.analytics.log.meters import count
from depesche.analytics.queries.results import rfc3339
from depesche.api.rest.bodies import held_json, off_loop
from depesche.api.rest.deps import by_login, client_address, tools_of
from depesche.api.rest.idempotency_key import fingerprint, idempotency_key
from depesche.api.rest.models_retarus import JobAnswer, JobRequest
from depesche.api.rest.native import Caller
from depesche.api.rest.openapi import Examples, body_of
from depesche.api.rest.problems import json_response
from depesche.api.rest.retarus import PreparedJob, answer, prepare_job
from depesche.api.rest.retarus_errors import Rejection, of_error, of_validation, rejected
from depesche.api.rest.submitting import submitted, suppressed_for
from depesche.api.rest.tools import Tools
from depesche.schemas.errors import DepescheError

JOBS_PATH = "/rest/v2/jobs"
"""Where the interface is. The vendor's host names and path are not published; this one is our choice, and clients set it."""

EXAMPLES: Examples = {
    "text": (
        "One text to one recipient",
        {
            "subject": {"content": "Your parcel is on its way"},
            "body": {"contentType": "text/plain", "content": "Hello Ada"},
            "recipients": [{"mail": {"to": [{"email": "Ada Example<ada@example.org>"}]}, "reference": "order-4711"}],
            "mail": {"from": {"email": "Shop<bounce@shop.example>"}},
        },
    ),
    "blocks": (
        "HTML to two blocks, each a message of its own",
        {
            "subject": {"contentEncoding": "plain", "charset": "UTF-8", "content": "Your parcel is on its way"},
            "body": {"contentType": "text/html", "content": '<p>Hello</p><img src="cid:logo1">'},
            "alternative": {"content": "Hello"},
            "attachments": [
                {"name": "logo.png", "contentType": "image/png", "contentId": "logo1", "content": "iVBORw0KGgo="}
            ],
            "recipients": [
                {"mail": {"to": [{"email": "ada@example.org"}], "priority": "HIGH", "xHeaders": {"x-order": "4711"}}},
                {"mail": {"to": [{"email": "bob@example.org"}], "listUnsubscribe": "unsubscribe@shop.example"}},
            ],
            "mail": {
                "from": {"email": "Shop<bounce@shop.example>"},
                "mimeFrom": {"email": "Shop<news@shop.example>"},
                "replyTo": {"email": "service@shop.example"},
            },
            "job": {"referenceJob": "run-42", "costCenter": "cc-9", "campaignId": "spring"},
        },
    ),
}
_REJECTED = {
    400: ("MISSING_VALUE", "Missing mandatory value for subject.content"),
    401: ("UNAUTHORIZED", None),
    403: ("FORBIDDEN_SENDER", "Unsupported value for mail.from"),
    413: ("LIMIT_EXCEEDED", "Request body size limit exceeded"),
    429: ("LIMIT_EXCEEDED", "Too much at once; please slow down"),
    500: ("INTERNAL_ERROR", None),
    503: ("INTERNAL_ERROR", None),
}
_EXAMPLE_JOB = "019bbf0e-7c00-7a1b-8c2d-3e4f5a6b7c8d"


def add(router: APIRouter) -> None:
    """Add the routes of this noun; the path with a slash at its end is the same one."""
    router.add_api_route(
        JOBS_PATH,
        send_job,
        methods=["POST"],
        status_code=200,
        operation_id="sendJob",
        summary="Send a job (Retarus-compatible)",
        tags=["jobs"],
        response_model=JobAnswer,
        response_model_exclude_none=True,
        openapi_extra={**body_of(JobRequest, EXAMPLES), "security": [{"login": []}]},
        responses={status: _documented(*words) for status, words in _REJECTED.items()},
    )
    router.add_api_route(f"{JOBS_PATH}/", send_job, methods=["POST"], include_in_schema=False)


def _documented(sub_type: str, description: str | None) -> dict[str, Any]:
    state = {"type": "REJECTED", "subType": sub_type, "phase": "PRE_PROCESS"}
    if description is not None:
        state["description"] = description
    return {
        "model": JobAnswer,
        "description": sub_type,
        "content": {"application/json": {"example": {"meta": {"jobId": _EXAMPLE_JOB, "state": state}}}},
    }


async def send_job(request: Request) -> Response:
    """Takes one job for up to a hundred recipient blocks; each block is one message of its own.

    The answer says whether the request is valid and which recipients are (`FULL`, `PART`, `REJECTED`); everything later
    is an event. Templates, tracking, secure documents and notification endpoints are refused as not available yet.
    """
    cause: DepescheError | None = None
    try:
        return await _sent(request)
    except Rejection as fault:
        refusal = fault
    except DepescheError as fault:
        refusal, cause = of_error(fault), fault
    count("mail_submissions_refused_total", interface="rest", code=refusal.sub_type.lower())
    return rejected(refusal, cause)


async def _sent(request: Request) -> Response:
    tools, caller = tools_of(request), Caller(by_login(request), client_address(request))
    key = idempotency_key(request)
    async with held_json(request, tools.settings.rest.max_body, request.app.state.budget) as body:
        prepared = await off_loop(body.octets, lambda: _prepared(tools, caller, key, body.content))
        receipt = await submitted(request, prepared.submission, body.read_at)
    found = json_response(answer(receipt, prepared.blocks, rfc3339(receipt.received_at) or ""))
    if receipt.replayed:
        found.headers["Idempotent-Replayed"] = "true"
    return found


def _prepared(tools: Tools, caller: Caller, key: str | None, content: object) -> PreparedJob:
    try:
        request = JobRequest.model_validate(content)
    except pydantic.ValidationError as fault:
        raise of_validation(fault) from None
    suppressed = suppressed_for(tools, caller.principal.tenant)
    prepared = prepare_job(request, tools.directory, caller, tools.settings.smtp.max_size, suppressed)
    if key is None:
        return prepared
    keyed = replace(prepared.submission, idempotency_key=key, fingerprint=fingerprint("sendJob", content))
    return replace(prepared, submission=keyed)
