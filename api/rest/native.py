"""From the native API's request to a submission: no I/O, so that a thread can do it for large mails."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.things import Principal
from depesche.api.compose import (
    Heading,
    Priority,
    compose,
    custom_lines,
    finished,
    priority_lines,
    reply_lines,
    unsubscribe_lines,
)
from depesche.api.header_lines import HeaderLine
from depesche.api.mime_body import File, Text, build_body, described
from depesche.api.rest.attachments import decoded, require_allowed
from depesche.api.rest.models_native import MAX_RECIPIENTS, AttachmentIn, EmailRequest, MailboxIn
from depesche.api.rest.recipients import Checked, Suppressed, checked, shown
from depesche.api.rest.senders import require_sender, roles_of
from depesche.api.submission import Content, Submission
from depesche.schemas.errors import MissingValueError, Refusal, TooLargeError, TooManyError
from depesche.schemas.records import Interface, RecipientKind
from depesche.schemas.values import Mailbox


@dataclass(frozen=True, slots=True)
class Caller:
    """Who submits, and from where."""

    principal: Principal
    client: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A submission with the recipients as they were judged, in the same order."""

    submission: Submission
    recipients: tuple[Checked, ...]


@contextmanager
def at(pointer: str) -> Iterator[None]:
    """Let a refusal say where in the request it was; what it says already stands behind that."""
    try:
        yield
    except Refusal as fault:
        inner = fault.pointer if fault.pointer and not fault.pointer.startswith("/") else ""
        fault.pointer = f"{pointer}/{inner}" if inner else pointer
        raise


def prepare(
    request: EmailRequest, directory: Directory, caller: Caller, max_size: int, suppressed: Suppressed
) -> Prepared:
    """The submission that ``request`` asks for.

    Args:
        request: as validated by its model.
        directory: who may send from where.
        caller: the credential and the source address.
        max_size: octets of the largest message.
        suppressed: asks the suppression list.

    Raises:
        Refusal: a value is not valid, the sender is not registered, or the message is too large; says where.
    """
    with at("/from"):
        sender = request.sender.mailbox()
        domain = require_sender(directory, caller.principal, sender)
    recipients = _recipients(request, roles_of(directory, caller.principal.account), suppressed)
    heading = _heading(request, sender, recipients)
    content = _composed(request, heading)
    if sum(map(len, content.parts)) > max_size:
        raise TooLargeError("composed")
    submission = Submission(
        tenant=caller.principal.tenant,
        account=caller.principal.account,
        interface=Interface.REST,
        client=caller.client,
        mail_from=str(sender.address),
        header_from=str(sender.address),
        subject=request.subject,
        sender_domain=domain,
        messages=(content,),
        recipients=tuple(recipient.unit(0, 0, request.reference) for recipient in recipients),
        smtputf8=heading.needs_smtputf8 or any(r.mailbox.address.needs_smtputf8 for r in recipients if r.mailbox),
        reference_job=request.reference,
        cost_center=request.cost_center,
        campaign_id=request.campaign_id,
    )
    return Prepared(submission, recipients)


def _recipients(request: EmailRequest, roles: Collection[str], suppressed: Suppressed) -> tuple[Checked, ...]:
    if request.recipients() > MAX_RECIPIENTS:
        raise TooManyError("recipients", public=f"More than {MAX_RECIPIENTS} recipients", pointer="/to")
    given: Sequence[tuple[RecipientKind, list[MailboxIn]]] = (
        (RecipientKind.TO, request.to),
        (RecipientKind.CC, request.cc),
        (RecipientKind.BCC, request.bcc),
    )
    return tuple(checked(one.email, one.mailbox, kind, roles, suppressed) for kind, several in given for one in several)


def _heading(request: EmailRequest, sender: Mailbox, recipients: Sequence[Checked]) -> Heading:
    reply_to: list[Mailbox] = []
    for number, one in enumerate(request.reply_to):
        with at(f"/reply_to/{number}"):
            reply_to.append(one.mailbox())
    return Heading(
        sender=sender,
        to=shown(recipients, RecipientKind.TO),
        cc=shown(recipients, RecipientKind.CC),
        reply_to=tuple(reply_to),
        subject=Text(request.subject),
        more=_more(request),
    )


def _more(request: EmailRequest) -> tuple[HeaderLine, ...]:
    with at("/in_reply_to"):
        reply = reply_lines(request.in_reply_to)
    with at("/list_unsubscribe"):
        unsubscribe = unsubscribe_lines(request.list_unsubscribe)
    with at("/headers"):
        custom = custom_lines(request.headers)
    priority = priority_lines(cast(Priority, request.priority.upper()))
    return (*reply, *priority, *custom, *unsubscribe)


def _composed(request: EmailRequest, heading: Heading) -> Content:
    if request.text is None and request.html is None:
        raise MissingValueError("text or html", public="Give text or html", pointer="/text")
    files = [_file(number, attachment) for number, attachment in enumerate(request.attachments)]
    body = build_body(
        Text(request.text) if request.text is not None else None,
        Text(request.html) if request.html is not None else None,
        files,
    )
    return compose(heading, body, finished(body))


def _file(number: int, attachment: AttachmentIn) -> File:
    where = f"/attachments/{number}"
    with at(f"{where}/filename"):
        require_allowed(attachment.filename)
    with at(f"{where}/content"):
        content = decoded(attachment.content)
    file = File(attachment.filename, attachment.content_type, content, attachment.content_id)
    with at(where):
        described(file)
    return file
