"""Request and answer of the native API, version 1. What stands here is the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from depesche.schemas.errors import InvalidRequestError, NotAvailableError
from depesche.schemas.values import Address, Mailbox, has_control

MAX_RECIPIENTS = 1000
MAX_ATTACHMENTS = 20
MAX_SUBJECT = 998
MAX_ADDRESS = 254
MAX_HEADERS = 50
MAX_REFERENCE = 50

_MAILBOX_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "maxLength": MAX_ADDRESS, "examples": ["Ada Example <ada@example.org>"]},
        {
            "type": "object",
            "properties": {
                "email": {"type": "string", "maxLength": MAX_ADDRESS, "description": "The bare address."},
                "name": {"type": "string", "maxLength": MAX_ADDRESS, "description": "Shown beside the address."},
            },
            "required": ["email"],
            "additionalProperties": False,
        },
    ],
    "title": "Mailbox",
    "type": None,
    "properties": None,
    "required": None,
    "additionalProperties": None,
    "description": "An address, with a name if you like: `Ada <ada@example.org>` or `{email, name}`.",
}


def _only_any_of(schema: dict[str, Any]) -> None:
    schema.clear()
    schema.update({name: value for name, value in _MAILBOX_SCHEMA.items() if value is not None})


class Part(BaseModel):
    """A part of a request: an unknown key is an error, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MailboxIn(Part):
    """An address, with a name if you like."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_only_any_of)

    email: str = Field(max_length=MAX_ADDRESS)
    name: str = Field("", max_length=MAX_ADDRESS)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: object) -> object:
        return {"email": given} if isinstance(given, str) else given

    def mailbox(self) -> Mailbox:
        """The value.

        Raises:
            InvalidRequestError: the address is not valid, or the name holds a control character.
        """
        if not self.name:
            return Mailbox.parse(self.email)
        if has_control(self.name):
            raise InvalidRequestError("name", public="The name holds a control character")
        return Mailbox(self.name.strip(), Address.parse(self.email.strip()))


class AttachmentIn(Part):
    """A file beside the text, or a picture in it."""

    filename: str = Field(min_length=1, max_length=254, description="Shown to the reader.", examples=["invoice.pdf"])
    content: str = Field(description="The file's bytes in base64.", examples=["JVBERi0xLjQK"])
    content_type: str = Field("application/octet-stream", min_length=3, max_length=100, examples=["application/pdf"])
    content_id: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description='Makes it a picture that the HTML shows with `<img src="cid:…">`.',
        examples=["logo"],
    )


Reference = Annotated[str, Field(min_length=1, max_length=MAX_REFERENCE)]


class EmailRequest(Part):
    """One email, to one or many recipients. All of `to`, `cc` and `bcc` get the same message."""

    later: ClassVar[dict[str, str]] = {
        "messages": "Batches",
        "template": "Templates",
        "template_id": "Templates",
        "template_data": "Templates",
        "variables": "Templates",
        "tracking": "Open and link tracking",
        "open_tracking": "Open and link tracking",
        "link_tracking": "Open and link tracking",
        "track_opens": "Open and link tracking",
        "track_clicks": "Open and link tracking",
        "send_at": "Scheduled sending",
        "scheduled_at": "Scheduled sending",
        "secure_document": "Secure documents",
        "secure_documents": "Secure documents",
        "webhook": "Webhooks",
        "notification": "Webhooks",
        "metadata": "Metadata",
        "dry_run": "Dry runs",
    }

    sender: MailboxIn = Field(alias="from", description="Its domain must be registered for your account.")
    to: list[MailboxIn] = Field(min_length=1, max_length=MAX_RECIPIENTS, description="Shown recipients.")
    cc: list[MailboxIn] = Field([], max_length=MAX_RECIPIENTS, description="Shown as copies.")
    bcc: list[MailboxIn] = Field([], max_length=MAX_RECIPIENTS, description="Never shown.")
    reply_to: list[MailboxIn] = Field([], max_length=10, description="Where answers go; empty: to the sender.")
    subject: str = Field(min_length=1, max_length=MAX_SUBJECT, examples=["Your parcel is on its way"])
    text: str | None = Field(None, description="The message as plain text.")
    html: str | None = Field(None, description="The message as HTML. Give `text` or `html` or both.")
    headers: dict[str, str] = Field(
        {},
        max_length=MAX_HEADERS,
        description="Own header fields. Their names begin with `X-`.",
        examples=[{"X-Order": "4711"}],
    )
    attachments: list[AttachmentIn] = Field([], max_length=MAX_ATTACHMENTS)
    reference: Reference | None = Field(None, description="Your own reference, searchable.", examples=["order-4711"])
    campaign_id: Reference | None = Field(None, description="Groups emails in reports.", examples=["spring"])
    cost_center: Reference | None = Field(None, description="Who pays, in your books.", examples=["cc-9"])
    priority: Literal["high", "normal", "low"] = Field(
        "normal", description="Importance shown by the reader's program."
    )
    in_reply_to: str | None = Field(None, max_length=900, description="Message-ID of the email that this one answers.")
    list_unsubscribe: str | None = Field(
        None, max_length=900, description="An address or an https address where the recipient unsubscribes."
    )

    @model_validator(mode="before")
    @classmethod
    def _not_yet(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        for key in given.keys() & cls.later.keys():
            raise NotAvailableError(key, public=f"{cls.later[key]} are not available yet", pointer=f"/{key}")
        reply_to = given.get("reply_to")
        return given if reply_to is None or isinstance(reply_to, list) else {**given, "reply_to": [reply_to]}

    def recipients(self) -> int:
        """How many there are in all."""
        return len(self.to) + len(self.cc) + len(self.bcc)


class Refused(BaseModel):
    """Why nothing is sent to this recipient."""

    code: str = Field(description="Drop reason.", examples=["invalid_address"])
    detail: str = Field(examples=["The recipient's address is not valid."])


class Unit(BaseModel):
    """One recipient of one message: what is delivered, billed and searched."""

    id: str = Field(examples=["019bbf0e-7c00-7a1b-8c2d-3e4f5a6b7c8d.0"])
    to: str = Field(examples=["ada@example.org"])
    kind: Literal["to", "cc", "bcc"] = "to"
    refused: Refused | None = Field(None, description="Set when nothing is sent to this recipient.")


class EmailAccepted(BaseModel):
    """We keep it, whatever happens from here on."""

    id: str = Field(description="Id of the job.", examples=["019bbf0e-7c00-7a1b-8c2d-3e4f5a6b7c8d"])
    received_at: str = Field(examples=["2026-01-15T08:00:00.123Z"])
    units: list[Unit]


class FaultOut(BaseModel):
    """One value that is not as it must be."""

    pointer: str = Field(description="JSON pointer into the body (RFC 6901), or a parameter's name.", examples=["/to"])
    code: str = Field(examples=["missing_value"])
    message: str = Field(examples=["to is missing"])


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Address of a page that explains it.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable name; decide by this.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    trace_id: str = Field(description="Names this request in the operator's logs.")
    errors: list[FaultOut] = []
