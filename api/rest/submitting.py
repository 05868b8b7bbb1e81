"""The last step of both REST interfaces: hand the submission over, measure it, and remember it for the first look."""

from __future__ import annotations

import time

from fastapi import Request

from depesche.analytics.log.meters import count, observe
from depesche.api.rest.deps import tools_of
from depesche.api.rest.recipients import Suppressed
from depesche.api.rest.tools import Tools
from depesche.api.submission import Receipt, Submission
from depesche.schemas.errors import LogUnavailableError


async def submitted(request: Request, submission: Submission, read_at: float) -> Receipt:
    """The receipt for a submission.

    Args:
        request: whose application it is.
        submission: read, checked and authorised.
        read_at: when the last octet of the body was there, by ``time.perf_counter``.

    Raises:
        Outage, Refusal: see ``Hallway.submit``.
    """
    hallway = tools_of(request).hallway
    was_ready = hallway.ready
    try:
        receipt = await hallway.submit(submission)
    except LogUnavailableError:
        if was_ready:
            # The record may have been written: whoever asks again without an Idempotency-Key may send a second mail.
            count("mail_accept_ambiguous_total", interface="rest")
        raise
    observe("mail_accept_seconds", time.perf_counter() - read_at, interface="rest")
    if not receipt.replayed:
        count("mail_messages_accepted_total", interface="rest")
        request.app.state.recent.add(submission, receipt)
    return receipt


def suppressed_for(tools: Tools, tenant: str) -> Suppressed:
    """Asks the suppression list for a customer's recipients; a door without a list knows of none."""
    desk = tools.suppressions
    return (lambda _: None) if desk is None else (lambda address: desk.refusal(tenant, str(address)))
