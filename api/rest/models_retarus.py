"""The JobRequest of the Retarus-compatible interface, key by key (wire note 2.4), and the shape of its answers (2.5).

Lists, lengths and allowed values are held here; what concerns several keys, or the directory, stands in ``retarus``.
Tolerated on purpose, because the vendor's own samples need it: a trailing blank in a feature's key (``"active "``), booleans
written as strings, and an empty ``listUnsubscribe``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

MAX_BLOCKS = 100
MAX_ADDRESSES = 1000
MAX_ATTACHMENTS = 20
MAX_HEADERS = 10
MAX_ENDPOINT_HEADERS = 10_000


def _not_empty(given: object) -> object:
    """A key that is there must have content (wire note 2.3)."""
    if given is None or given == "":
        raise PydanticCustomError("empty", "empty")
    return given


def _mandatory(given: object) -> object:
    if given is None or given == "":
        raise PydanticCustomError("missing", "missing")
    return given


Filled = BeforeValidator(_not_empty)
Mandatory = BeforeValidator(_mandatory)
Short = Annotated[str | None, Field(max_length=50), Filled]
AddressText = Annotated[str, Field(max_length=254), Mandatory]
Headers = Annotated[dict[str, str], Field(max_length=MAX_HEADERS), Filled]
Priority = Annotated[Literal["HIGH", "NORMAL", "LOW"] | None, Filled]
Flag = Annotated[bool, Filled]


def _without_null(schema: dict[str, Any]) -> None:
    """Leaving a key out is allowed, null is not."""
    for described in schema.get("properties", {}).values():
        branches = [branch for branch in described.get("anyOf", []) if branch.get("type") != "null"]
        if len(branches) == 1:
            del described["anyOf"]
            described.update(branches[0])
        if described.get("default", "") is None:
            del described["default"]


class Wire(BaseModel):
    """A part of the request. An unknown key is refused: ignoring it would be a promise that is not kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, json_schema_extra=_without_null)


class TextPart(Wire):
    """A text, and how the caller wrote it into the JSON."""

    content_encoding: Annotated[Literal["plain", "quoted-printable", "base64"], Filled] = "plain"
    content_transfer_encoding: Annotated[Literal["base64"] | None, Filled] = None
    charset: Annotated[str, Field(max_length=40), Filled] = "UTF-8"
    content: Annotated[str | None, Mandatory] = None
    template: Annotated[str | None, Filled] = None

    @model_validator(mode="after")
    def _content_or_template(self) -> TextPart:
        if self.content is None and self.template is None:
            raise PydanticCustomError("missing_content", "content is missing")
        return self


class Subject(TextPart):
    """The subject; 500 or 998 characters, by which page of the vendor one believes: the larger is taken."""

    content: Annotated[str | None, Field(max_length=998), Mandatory] = None
    features: Annotated[dict[str, Any] | None, Filled] = None


class BodyPart(TextPart):
    """The message's main text."""

    content_type: Annotated[Literal["text/plain", "text/html"], Mandatory]


class Attachment(Wire):
    """A file, or with ``contentId`` a picture in the HTML."""

    name: Annotated[str, Field(max_length=254), Mandatory]
    content_type: Annotated[str, Field(max_length=100), Mandatory]
    content: Annotated[str, Mandatory]
    content_id: Annotated[str | None, Field(max_length=100), Filled] = None
    secure_document: Flag = False


class Email(Wire):
    """Friendly name and address in one string."""

    email: AddressText


class Switch(Wire):
    """A feature, on or off."""

    active: Flag = False

    @model_validator(mode="before")
    @classmethod
    def _trimmed_keys(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        return {key.strip() if isinstance(key, str) else key: value for key, value in given.items()}


class Templating(Wire):
    """Values for a template."""

    personalization: dict[str, Any] = {}


class Features(Wire):
    """Features of a job or of a recipient block."""

    open_tracking: Annotated[Switch | None, Filled] = None
    link_tracking: Annotated[Switch | None, Filled] = None
    templating: Annotated[Templating | None, Filled] = None


class MailOptions(Wire):
    """What a job and a recipient block can both say; the block's word counts."""

    reply_to: Annotated[Email | None, Filled] = None
    in_reply_to: Annotated[str | None, Field(max_length=900), Filled] = None
    priority: Priority = None
    list_unsubscribe: Annotated[str | None, Field(max_length=900)] = None
    x_headers: Headers = {}


class RecipientMail(MailOptions):
    """Recipients of one block, which is one message."""

    to: Annotated[list[Email], Field(min_length=1), Mandatory]
    cc: Annotated[list[Email], Filled] = []
    bcc: Annotated[list[Email], Filled] = []

    @field_validator("to", mode="before")
    @classmethod
    def _some(cls, given: object) -> object:
        if given == []:
            raise PydanticCustomError("missing", "missing")
        return given


class Recipient(Wire):
    """One block: one message to all its addresses."""

    mail: Annotated[RecipientMail, Mandatory]
    features: Annotated[Features | None, Filled] = None
    reference: Short = None


class JobMail(MailOptions):
    """The sender, and defaults for all blocks."""

    sender: Annotated[Email, Mandatory] = Field(alias="from")
    mime_from: Annotated[Email | None, Filled] = None


class JobOptions(Wire):
    """References and features of the whole job."""

    reference_job: Short = None
    cost_center: Short = None
    campaign_id: Short = None
    features: Annotated[Features | None, Filled] = None
    options: Annotated[dict[str, Any], Filled] = {}


class Authentication(Wire):
    """How to log in at the endpoint."""

    method: Annotated[Literal["BASIC"], Mandatory]
    user: Annotated[str, Field(max_length=100), Mandatory]
    password: Annotated[str, Field(max_length=100), Mandatory]


class EndPoint(Wire):
    """Where notifications go."""

    url: Annotated[str, Field(max_length=1000), Mandatory]
    headers: Annotated[dict[str, str], Filled] = {}
    authentication: Annotated[Authentication | None, Filled] = None

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise PydanticCustomError("format", "neither http nor https")
        return url

    @field_validator("headers")
    @classmethod
    def _not_too_much(cls, headers: dict[str, str]) -> dict[str, str]:
        if sum(len(name) + len(value) for name, value in headers.items()) > MAX_ENDPOINT_HEADERS:
            raise PydanticCustomError("string_too_long", "too much")
        return headers


class Notification(Wire):
    """Pushes of this job."""

    end_point: Annotated[EndPoint, Mandatory]


class JobRequest(Wire):
    """One mail job: texts, files, and up to a hundred recipient blocks."""

    subject: Annotated[Subject, Mandatory]
    body: Annotated[BodyPart | None, Filled] = None
    alternative: Annotated[TextPart | None, Filled] = None
    attachments: Annotated[list[Attachment], Field(max_length=MAX_ATTACHMENTS), Filled] = []
    recipients: Annotated[list[Recipient], Field(min_length=1, max_length=MAX_BLOCKS), Mandatory]
    mail: Annotated[JobMail, Mandatory]
    job: Annotated[JobOptions | None, Filled] = None
    notification: Annotated[Notification | None, Filled] = None


class State(BaseModel):
    """Where validation ended."""

    type: Literal["ACCEPTED", "REJECTED"]
    sub_type: str = Field(alias="subType", examples=["FULL", "PART", "MISSING_VALUE"])
    phase: Literal["PRE_PROCESS"]
    description: str | None = None


class Meta(BaseModel):
    """The job and its state."""

    job_id: str = Field(alias="jobId")
    received_ts: str | None = Field(None, alias="receivedTs", description="Not in a rejection.")
    state: State


class JobAnswer(BaseModel):
    """What is said at once; everything later is an event."""

    meta: Meta
    content: dict[str, Any] | None = Field(None, description="The recipients with their ids; not in a rejection.")
