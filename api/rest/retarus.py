"""From a JobRequest to a submission, and from a receipt to the answer (wire note 2.4, 2.5): no I/O.

What later issues bring (templates, tracking, secure documents, pushes to an endpoint of the job's own) is refused by name:
taking the job and leaving out what it asked for would be a silent loss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from depesche.analytics.directory.directory import Directory
from depesche.api.compose import (
    Heading,
    compose,
    custom_lines,
    finished,
    priority_lines,
    reply_lines,
    unsubscribe_lines,
)
from depesche.api.header_lines import HeaderLine
from depesche.api.mime_body import Entity, File, Text, build_body, described
from depesche.api.rest.attachments import decoded, require_allowed
from depesche.api.rest.models_retarus import (
    MAX_ADDRESSES,
    Attachment,
    Email,
    Features,
    JobMail,
    JobRequest,
    MailOptions,
    Recipient,
)
from depesche.api.rest.native import Caller
from depesche.api.rest.recipients import Checked, Suppressed, checked, shown
from depesche.api.rest.retarus_errors import field, limit, not_available, rejection
from depesche.api.rest.retarus_text import body_text, subject_text
from depesche.api.rest.senders import require_sender, roles_of
from depesche.api.submission import Receipt, Submission
from depesche.schemas.errors import ForbiddenError, ForbiddenSenderError, InvalidRequestError, TooLargeError
from depesche.schemas.records import DropReason, Interface, RecipientKind
from depesche.schemas.values import Mailbox

_CLASSIFIERS: Mapping[DropReason, Mapping[str, str]] = {
    DropReason.INVALID_ADDRESS: {"classifier": "INVALID_FORMAT"},
    DropReason.FORBIDDEN_RECIPIENT: {
        "classifier": "FORBIDDEN_RECIPIENT",
        "message": "Reason: Local part forbidden by config",
    },
    DropReason.PREVIOUSLY_BOUNCED: {"classifier": "PREVIOUSLY_BOUNCED"},
}
_FILE_KEYS = {"filename": "name", "content_type": "contentType", "content_id": "contentId"}


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A submission with its recipients as they were judged, block by block."""

    submission: Submission
    blocks: tuple[tuple[Checked, ...], ...]


@dataclass(frozen=True, slots=True)
class _Sender:
    envelope: Mailbox
    shown: Mailbox
    domain: str


def prepare_job(
    request: JobRequest, directory: Directory, caller: Caller, max_size: int, suppressed: Suppressed
) -> PreparedJob:
    """The submission that ``request`` asks for.

    Args:
        request: as validated by its model.
        directory: who may send from where.
        caller: the credential and the source address.
        max_size: octets of the largest message.
        suppressed: asks the suppression list.

    Raises:
        Rejection: in the table's words.
        TooLargeError: a message is larger than ``max_size``.
    """
    _require_available(request)
    sender = _sender(request.mail, directory, caller)
    blocks = _blocks(request.recipients, roles_of(directory, caller.principal.account), suppressed)
    subject, body = subject_text(request.subject), _body(request)
    payload = finished(body)
    headings = [_heading(request, number, block, sender, subject) for number, block in enumerate(blocks)]
    messages = tuple(compose(heading, body, payload) for heading in headings)
    if max(message.header_size for message in messages) + len(payload) > max_size:
        raise TooLargeError("composed")
    job = request.job
    submission = Submission(
        tenant=caller.principal.tenant,
        account=caller.principal.account,
        interface=Interface.REST,
        client=caller.client,
        mail_from=str(sender.envelope.address),
        header_from=str(sender.shown.address),
        subject=subject.content,
        sender_domain=sender.domain,
        messages=messages,
        recipients=tuple(
            one.unit(number, number, request.recipients[number].reference)
            for number, block in enumerate(blocks)
            for one in block
        ),
        smtputf8=_needs_smtputf8(sender, headings, blocks),
        reference_job=job.reference_job if job else None,
        cost_center=job.cost_center if job else None,
        campaign_id=job.campaign_id if job else None,
    )
    return PreparedJob(submission, blocks)


def _needs_smtputf8(sender: _Sender, headings: Sequence[Heading], blocks: Sequence[Sequence[Checked]]) -> bool:
    mailboxes = [sender.envelope, *(one.mailbox for block in blocks for one in block if one.mailbox)]
    return any(h.needs_smtputf8 for h in headings) or any(m.address.needs_smtputf8 for m in mailboxes)


def _require_available(request: JobRequest) -> None:
    for path in _unavailable(request):
        raise not_available(path)


def _unavailable(request: JobRequest) -> Iterator[str]:
    """Paths of what the job asks for and a later issue brings, in the order of the request."""
    for name, part in (("subject", request.subject), ("body", request.body), ("alternative", request.alternative)):
        if part is not None and part.template is not None:
            yield f"{name}.template"
    if request.subject.features:
        yield "subject.features"
    if any(attachment.secure_document for attachment in request.attachments):
        yield "attachments.attachment.secureDocument"
    job_features = request.job.features if request.job else None
    for recipient in request.recipients:
        yield from _active(recipient.features, job_features)
    if request.job and request.job.options:
        yield "job.options"
    if request.notification is not None:
        yield "notification.endPoint"


def _active(own: Features | None, job: Features | None) -> Iterator[str]:
    """What is switched on for one block: its own word counts, else the job's."""
    for name, attribute in (("openTracking", "open_tracking"), ("linkTracking", "link_tracking")):
        own_switch, job_switch = getattr(own, attribute, None), getattr(job, attribute, None)
        switch = own_switch or job_switch
        if switch is not None and switch.active:
            where = "recipients.recipient" if own_switch else "job"
            yield f"{where}.features.{name}.active"
    for where, features in (("recipients.recipient", own), ("job", job)):
        if features and features.templating and features.templating.personalization:
            yield f"{where}.features.templating.personalization"


def _sender(mail: JobMail, directory: Directory, caller: Caller) -> _Sender:
    with field("mail.from", "INVALID_SENDER"):
        envelope = Mailbox.parse(mail.sender.email)
    visible = envelope
    if mail.mime_from is not None:
        with field("mail.mimeFrom", "INVALID_SENDER"):
            visible = Mailbox.parse(mail.mime_from.email)
    for path, mailbox in (("mail.from", envelope), ("mail.mimeFrom", visible)):
        try:
            domain = require_sender(directory, caller.principal, mailbox)
        except ForbiddenSenderError:
            raise rejection("FORBIDDEN_SENDER", path) from None
    if visible.address.domain != envelope.address.domain:
        raise rejection("FORBIDDEN_SENDER", "mail.mimeFrom")
    return _Sender(envelope, visible, domain)


def _blocks(
    recipients: Sequence[Recipient], roles: Collection[str], suppressed: Suppressed
) -> tuple[tuple[Checked, ...], ...]:
    if sum(len(r.mail.to) + len(r.mail.cc) + len(r.mail.bcc) for r in recipients) > MAX_ADDRESSES:
        raise limit("Count", "recipients.mail")
    return tuple(_block(recipient, roles, suppressed) for recipient in recipients)


def _block(recipient: Recipient, roles: Collection[str], suppressed: Suppressed) -> tuple[Checked, ...]:
    mail = recipient.mail
    given: Sequence[tuple[RecipientKind, Sequence[Email]]] = (
        (RecipientKind.TO, mail.to),
        (RecipientKind.CC, mail.cc),
        (RecipientKind.BCC, mail.bcc),
    )
    return tuple(_checked(one.email, kind, roles, suppressed) for kind, several in given for one in several)


def _checked(text: str, kind: RecipientKind, roles: Collection[str], suppressed: Suppressed) -> Checked:
    return checked(text, lambda: Mailbox.parse(text), kind, roles, suppressed)


def _heading(request: JobRequest, number: int, block: Sequence[Checked], sender: _Sender, subject: Text) -> Heading:
    own, job = request.recipients[number].mail, request.mail
    reply_to = own.reply_to or job.reply_to
    where = "recipients.recipient.email.replyTo" if own.reply_to else "mail.replyTo"
    with field(where):
        answers = (Mailbox.parse(reply_to.email),) if reply_to else ()
    return Heading(
        sender=sender.shown,
        to=shown(block, RecipientKind.TO),
        cc=shown(block, RecipientKind.CC),
        reply_to=answers,
        subject=subject,
        more=_more(own, job),
    )


def _more(own: MailOptions, job: MailOptions) -> tuple[HeaderLine, ...]:
    with field(_where(own.in_reply_to, "inReplyTo")):
        reply = reply_lines(own.in_reply_to or job.in_reply_to)
    with field(_where(own.list_unsubscribe, "listUnsubscribe"), "INVALID_VALUE"):
        unsubscribe = unsubscribe_lines(own.list_unsubscribe or job.list_unsubscribe)
    with field(_where(own.x_headers, "xHeaders"), "INVALID_VALUE"):
        # A name given at both levels has the block's value, in whatever case it is written.
        mine = {name.lower() for name in own.x_headers}
        inherited = [(name, value) for name, value in job.x_headers.items() if name.lower() not in mine]
        custom = custom_lines([*inherited, *own.x_headers.items()])
    return (*reply, *priority_lines(own.priority or job.priority), *custom, *unsubscribe)


def _where(own: object, key: str) -> str:
    return f"recipients.recipient.mail.{key}" if own else f"mail.{key}"


def _body(request: JobRequest) -> Entity:
    text = html = None
    if request.body is not None:
        main = body_text(request.body, "body")
        text, html = (main, None) if request.body.content_type == "text/plain" else (None, main)
    if request.alternative is not None and text is None:
        text = body_text(request.alternative, "alternative")
    return build_body(text, html, [_file(attachment) for attachment in request.attachments])


def _file(attachment: Attachment) -> File:
    try:
        require_allowed(attachment.name)
    except ForbiddenError:
        raise rejection("FORBIDDEN_PARAMS", "attachments.attachment.name") from None
    with field("attachments.attachment.content"):
        content = decoded(attachment.content)
    file = File(attachment.name, attachment.content_type, content, attachment.content_id)
    try:
        described(file)
    except InvalidRequestError as fault:
        key = _FILE_KEYS.get(fault.pointer or "", "name")
        raise rejection("INVALID_FORMAT", f"attachments.attachment.{key}") from None
    return file


def answer(receipt: Receipt, blocks: Sequence[Sequence[Checked]], received_ts: str) -> dict[str, Any]:
    """The synchronous answer: FULL when every recipient is valid, else PART.

    An address id is ``<jobId>#<block>#<address>``, both numbers as eight hexadecimal digits; the second is the number of
    the unit within the job, so that the unit is ``<jobId>.<number>``.
    """
    full = not any(one.reason for block in blocks for one in block)
    state = {"type": "ACCEPTED", "subType": "FULL" if full else "PART", "phase": "PRE_PROCESS"}
    recipients: list[dict[str, Any]] = []
    unit = 0
    for number, block in enumerate(blocks):
        mail: dict[str, list[dict[str, Any]]] = {}
        for one in block:
            entry: dict[str, Any] = {"id": f"{receipt.job_id}#{number:08x}#{unit:08x}", "email": one.address}
            if one.reason:
                entry["validationResult"] = _CLASSIFIERS.get(one.reason, {"classifier": one.reason.value.upper()})
            mail.setdefault(one.kind.value, []).append(entry)
            unit += 1
        recipients.append({"mail": mail})
    meta = {"jobId": receipt.job_id, "receivedTs": received_ts, "state": state}
    return {"meta": meta, "content": {"recipients": recipients}}
