"""The Retarus-compatible interface: every limit and error of the wire note, and the exact shapes of its answers."""

from __future__ import annotations

import base64
import copy
import email
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from depesche.schemas.records import Account, DirectoryKind
from depesche.schemas.settings import RestSettings, Settings

from .conftest import World, a_world

URL = "/rest/v2/jobs"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
JOB: dict[str, Any] = {
    "subject": {"contentEncoding": "plain", "charset": "UTF-8", "content": "Your parcel is on its way"},
    "body": {
        "contentType": "text/html",
        "contentEncoding": "plain",
        "charset": "UTF-8",
        "content": '<html><body><p>Hello</p><img src="cid:logo1"></body></html>',
    },
    "alternative": {"contentEncoding": "plain", "charset": "UTF-8", "content": "Hello"},
    "attachments": [
        {"name": "logo.png", "contentType": "image/png", "contentId": "logo1", "content": "iVBORw0KGgo="},
        {"name": "label.pdf", "contentType": "application/pdf", "content": "JVBERi0xLjQK", "secureDocument": "false"},
    ],
    "recipients": [
        {
            "mail": {
                "to": [{"email": "Ada Example<ada@example.org>"}],
                "cc": [{"email": "cc@example.org"}],
                "bcc": [{"email": "bcc@example.org"}],
                "replyTo": {"email": "Service<service@shop.example>"},
                "inReplyTo": "earlier-message@shop.example",
                "priority": "HIGH",
                "listUnsubscribe": "unsubscribe@shop.example",
                "xHeaders": {"x-order": "4711"},
            },
            "features": {"openTracking": {"active ": False}, "linkTracking": {"active": "false"}},
            "reference": "order-4711",
        }
    ],
    "mail": {
        "from": {"email": "Shop<bounce@shop.example>"},
        "mimeFrom": {"email": "Shop<news@shop.example>"},
        "replyTo": {"email": "other@shop.example"},
        "priority": "NORMAL",
        "xHeaders": {"x-run": "42"},
    },
    "job": {
        "referenceJob": "run-42",
        "costCenter": "cc-9",
        "campaignId": "spring",
        "features": {"openTracking": {"active": False}, "linkTracking": {"active": False}},
        "options": {},
    },
}
ENDPOINT = {
    "url": "https://hooks.shop.example/tem",
    "headers": {"x-env": "prod"},
    "authentication": {"method": "BASIC", "user": "tem", "password": "secret"},
}


def basic(world: World) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(":".join(world.login).encode()).decode()}


async def send(world: World, job: Any, **headers: str) -> httpx.Response:
    return await world.client.post(URL, json=job, headers={**basic(world), **headers})


Change = Callable[[dict[str, Any]], object]


def put(path: str, value: object) -> Change:
    """A change of the job: dots between keys, digits are positions."""

    def apply(job: dict[str, Any]) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        place: Any = job
        for step in steps:
            if isinstance(place, dict) and step not in place:
                place[step] = {}
            place = place[step]
        place[last] = value

    return apply


def drop(path: str) -> Change:
    def apply(job: dict[str, Any]) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        place: Any = job
        for step in steps:
            place = place[step]
        del place[last]

    return apply


def changed(*changes: Change) -> dict[str, Any]:
    job = copy.deepcopy(JOB)
    for change in changes:
        change(job)
    return job


def addresses(count: int) -> list[dict[str, str]]:
    return [{"email": f"r{n}@example.org"} for n in range(count)]


A254 = "a@" + ".".join(["b" * 60] * 4) + ".example"
assert len(A254) == 253
LONG_ADDRESS = "A name that is long" * 13 + "<ada@example.org>"
assert len(LONG_ADDRESS) > 254
FILE = JOB["attachments"][1]

LIMITS: list[tuple[Change, str]] = [
    (put("attachments", [FILE] * 21), "Count limit exceeded for attachments"),
    (put("recipients", []), "Count limit exceeded for recipients.recipient"),
    (put("recipients", JOB["recipients"] * 101), "Count limit exceeded for recipients.recipient"),
    (put("recipients.0.mail.to", addresses(999)), "Count limit exceeded for recipients.mail"),
    (
        put("recipients.0.mail.xHeaders", {f"x-{n}": "v" for n in range(11)}),
        "Count limit exceeded for recipients.recipient.mail.xHeaders",
    ),
    (put("mail.xHeaders", {f"x-{n}": "v" for n in range(11)}), "Count limit exceeded for mail.xHeaders"),
    (put("subject.content", "x" * 999), "Size limit exceeded for subject.content"),
    (put("attachments.0.name", "x" * 255), "Size limit exceeded for attachments.attachment.name"),
    (put("attachments.0.contentType", "x" * 101), "Size limit exceeded for attachments.attachment.contentType"),
    (put("attachments.0.contentId", "x" * 101), "Size limit exceeded for attachments.attachment.contentId"),
    (put("recipients.0.mail.to.0.email", LONG_ADDRESS), "Size limit exceeded for recipients.recipient.email.to.0"),
    (put("recipients.0.mail.cc.0.email", LONG_ADDRESS), "Size limit exceeded for recipients.recipient.email.cc.0"),
    (put("recipients.0.mail.bcc.0.email", LONG_ADDRESS), "Size limit exceeded for recipients.recipient.email.bcc.0"),
    (
        put("recipients.0.mail.replyTo.email", LONG_ADDRESS),
        "Size limit exceeded for recipients.recipient.email.replyTo",
    ),
    (put("recipients.0.reference", "x" * 51), "Size limit exceeded for recipients.recipient.reference"),
    (put("mail.from.email", LONG_ADDRESS), "Size limit exceeded for mail.from"),
    (put("mail.mimeFrom.email", LONG_ADDRESS), "Size limit exceeded for mail.mimeFrom"),
    (put("mail.replyTo.email", LONG_ADDRESS), "Size limit exceeded for mail.replyTo"),
    (put("job.referenceJob", "x" * 51), "Size limit exceeded for job.referenceJob"),
    (put("job.costCenter", "x" * 51), "Size limit exceeded for job.costCenter"),
    (put("job.campaignId", "x" * 51), "Size limit exceeded for job.campaignId"),
    (
        put("notification", {"endPoint": {**ENDPOINT, "url": "https://" + "x" * 993}}),
        "Size limit exceeded for notification.endPoint.url",
    ),
    (
        put("notification", {"endPoint": {**ENDPOINT, "headers": {"x": "y" * 10_000}}}),
        "Size limit exceeded for notification.endPoint.headers",
    ),
    (
        put(
            "notification",
            {"endPoint": {**ENDPOINT, "authentication": {**ENDPOINT["authentication"], "user": "x" * 101}}},
        ),  # type: ignore[dict-item]
        "Size limit exceeded for notification.endPoint.authentication.user",
    ),
    (
        put(
            "notification",
            {"endPoint": {**ENDPOINT, "authentication": {**ENDPOINT["authentication"], "password": "x" * 101}}},
        ),  # type: ignore[dict-item]
        "Size limit exceeded for notification.endPoint.authentication.password",
    ),
]
MISSING: list[tuple[Change, str]] = [
    (drop("subject"), "subject.content"),
    (drop("subject.content"), "subject.content"),
    (put("subject.content", ""), "subject.content"),
    (put("subject.content", None), "subject.content"),
    (drop("body.content"), "body.content"),
    (drop("body.contentType"), "body.contentType"),
    (drop("alternative.content"), "alternative.content"),
    (drop("attachments.0.name"), "attachments.attachment.name"),
    (drop("attachments.0.content"), "attachments.attachment.content"),
    (drop("attachments.0.contentType"), "attachments.attachment.contentType"),
    (drop("recipients"), "recipients.recipient"),
    (drop("recipients.0.mail"), "recipients.recipient.email.to"),
    (drop("recipients.0.mail.to"), "recipients.recipient.email.to"),
    (put("recipients.0.mail.to", []), "recipients.recipient.email.to"),
    (drop("recipients.0.mail.to.0.email"), "recipients.recipient.email.to.0"),
    (drop("mail"), "mail.from"),
    (drop("mail.from"), "mail.from"),
    (put("mail.from.email", ""), "mail.from"),
    (put("notification", {"endPoint": {"headers": {}}}), "notification.endPoint.url"),
    (
        put("notification", {"endPoint": {**ENDPOINT, "authentication": {"method": "BASIC", "user": "tem"}}}),
        "notification.endPoint.authentication.password",
    ),
]
VALUES: list[tuple[Change, int, str, str]] = [
    (put("subject.contentEncoding", "rot13"), 400, "INVALID_VALUE", "Invalid value for subject.contentEncoding"),
    (
        put("subject.contentTransferEncoding", "7bit"),
        400,
        "INVALID_VALUE",
        "Invalid value for subject.contentTransferEncoding",
    ),
    (put("subject.charset", "klingon"), 400, "INVALID_VALUE", "Invalid value for subject.charset"),
    (put("subject.content", "a\r\nBcc: x"), 400, "INVALID_VALUE", "Invalid value for subject.content"),
    (put("subject.content", "=?utf-8?q?a=0Ab?="), 400, "INVALID_VALUE", "Invalid value for subject.content"),
    (put("subject.contentEncoding", "base64"), 400, "INVALID_FORMAT", "Invalid format for subject.content"),
    (put("body.contentEncoding", "base64"), 400, "INVALID_FORMAT", "Invalid format for body.content"),
    (put("body.charset", "zlib"), 400, "INVALID_VALUE", "Invalid value for body.charset"),
    (put("body.contentType", "text/markdown"), 400, "INVALID_VALUE", "Invalid value for body.contentType"),
    (put("body", None), 400, "INVALID_VALUE", "Invalid value for body"),
    (put("body", []), 400, "INVALID_FORMAT", "Invalid format for body"),
    (
        put("attachments.1.content", "no base64!"),
        400,
        "INVALID_FORMAT",
        "Invalid format for attachments.attachment.content",
    ),
    (
        put("attachments.1.contentType", "pdf"),
        400,
        "INVALID_FORMAT",
        "Invalid format for attachments.attachment.contentType",
    ),
    (
        put("attachments.0.contentId", "a b"),
        400,
        "INVALID_FORMAT",
        "Invalid format for attachments.attachment.contentId",
    ),
    (put("attachments.1.name", "a\nb"), 400, "INVALID_FORMAT", "Invalid format for attachments.attachment.name"),
    (
        put("attachments.1.name", "setup.exe"),
        403,
        "FORBIDDEN_PARAMS",
        "Unsupported value for attachments.attachment.name",
    ),
    (
        put("attachments.1.secureDocument", "maybe"),
        400,
        "INVALID_FORMAT",
        "Invalid format for attachments.attachment.secureDocument",
    ),
    (
        put("recipients.0.mail.priority", "URGENT"),
        400,
        "INVALID_VALUE",
        "Invalid value for recipients.recipient.mail.priority",
    ),
    (put("mail.priority", ""), 400, "INVALID_VALUE", "Invalid value for mail.priority"),
    (
        put("recipients.0.mail.replyTo.email", "nobody"),
        400,
        "INVALID_FORMAT",
        "Invalid format for recipients.recipient.email.replyTo",
    ),
    (
        put("recipients.0.mail.inReplyTo", "a b"),
        400,
        "INVALID_FORMAT",
        "Invalid format for recipients.recipient.mail.inReplyTo",
    ),
    (
        put("recipients.0.mail.listUnsubscribe", "http://x.example"),
        400,
        "INVALID_VALUE",
        "Invalid value for recipients.recipient.mail.listUnsubscribe",
    ),
    (
        put("recipients.0.mail.xHeaders", {"Bcc": "x@y.example"}),
        400,
        "INVALID_VALUE",
        "Invalid value for recipients.recipient.mail.xHeaders",
    ),
    (
        put("mail.xHeaders", {"x-retarus-m4a-x": "1"}),
        400,
        "INVALID_VALUE",
        "Invalid value for recipients.recipient.mail.xHeaders",
    ),
    (put("mail.xHeaders", {"x-a": 7}), 400, "INVALID_FORMAT", "Invalid format for mail.xHeaders"),
    (put("recipients.0.reference", ""), 400, "INVALID_VALUE", "Invalid value for recipients.recipient.reference"),
    (put("job.referenceJob", None), 400, "INVALID_VALUE", "Invalid value for job.referenceJob"),
    (
        put("recipients.0.mail.to", "ada@example.org"),
        400,
        "INVALID_FORMAT",
        "Invalid format for recipients.recipient.email.to",
    ),
    (put("mail.from.email", "no address"), 400, "INVALID_SENDER", "Invalid syntax for mail.from"),
    (put("mail.mimeFrom.email", "no address"), 400, "INVALID_SENDER", "Invalid syntax for mail.mimeFrom"),
    (put("mail.from.email", "a@other.example"), 403, "FORBIDDEN_SENDER", "Unsupported value for mail.from"),
    (put("mail.from.email", "postmaster@shop.example"), 403, "FORBIDDEN_SENDER", "Unsupported value for mail.from"),
    (put("mail.mimeFrom.email", "a@other.example"), 403, "FORBIDDEN_SENDER", "Unsupported value for mail.mimeFrom"),
    (
        put("notification", {"endPoint": {**ENDPOINT, "url": "ftp://x.example"}}),
        400,
        "INVALID_FORMAT",
        "Invalid format for notification.endPoint.url",
    ),
    (
        put(
            "notification",
            {"endPoint": {**ENDPOINT, "authentication": {"method": "OAUTH", "user": "u", "password": "p"}}},
        ),
        400,
        "INVALID_VALUE",
        "Invalid value for notification.endPoint.authentication.method",
    ),
    (put("job.unheard", 1), 400, "INVALID_VALUE", "Invalid value for job.unheard"),
    (put("job.features.teleport", {"active": True}), 400, "INVALID_VALUE", "Invalid value for job.features.teleport"),
]
NOT_YET: list[tuple[Change, str]] = [
    (put("subject", {"template": "Invoice ${number}"}), "subject.template"),
    (put("body", {"contentType": "text/html", "template": "<p>${name}"}), "body.template"),
    (put("alternative", {"template": "${name}"}), "alternative.template"),
    (
        put("recipients.0.features", {"templating": {"personalization": {"name": "Ada"}}}),
        "recipients.recipient.features.templating.personalization",
    ),
    (
        put("recipients.0.features", {"openTracking": {"active ": True}}),
        "recipients.recipient.features.openTracking.active",
    ),
    (
        put("recipients.0.features", {"linkTracking": {"active": "true"}}),
        "recipients.recipient.features.linkTracking.active",
    ),
    (put("attachments.1.secureDocument", "true"), "attachments.attachment.secureDocument"),
    (put("attachments.1.secureDocument", True), "attachments.attachment.secureDocument"),
    (put("job.options", {"x": 1}), "job.options"),
    (put("subject.features", {"x": 1}), "subject.features"),
    (put("notification", {"endPoint": ENDPOINT}), "notification.endPoint"),
]


async def refused(world: World, job: Any) -> tuple[int, str, str | None]:
    answer = await send(world, job)
    meta = answer.json()["meta"]
    assert set(answer.json()) == {"meta"}
    assert set(meta) == {"jobId", "state"}
    assert re.fullmatch(UUID, meta["jobId"])
    assert (meta["state"]["type"], meta["state"]["phase"]) == ("REJECTED", "PRE_PROCESS")
    assert world.jobs() == []
    return answer.status_code, meta["state"]["subType"], meta["state"].get("description")


@pytest.mark.parametrize(("change", "description"), LIMITS, ids=[d for _, d in LIMITS])
async def test_each_limit_is_held_and_named(world: World, change: Change, description: str) -> None:
    assert await refused(world, changed(change)) == (400, "LIMIT_EXCEEDED", description)


@pytest.mark.parametrize(("change", "path"), MISSING)
async def test_each_mandatory_value_is_asked_for(world: World, change: Change, path: str) -> None:
    assert await refused(world, changed(change)) == (400, "MISSING_VALUE", f"Missing mandatory value for {path}")


@pytest.mark.parametrize(("change", "status", "sub_type", "description"), VALUES)
async def test_each_wrong_value_is_named(
    world: World, change: Change, status: int, sub_type: str, description: str
) -> None:
    assert await refused(world, changed(change)) == (status, sub_type, description)


@pytest.mark.parametrize(("change", "path"), NOT_YET, ids=[path for _, path in NOT_YET])
async def test_what_is_not_there_yet_is_refused_by_name(world: World, change: Change, path: str) -> None:
    job = changed(drop("recipients.0.features"), drop("job.features"), change)
    expected = f"Unsupported value for {path}: not available yet"
    assert await refused(world, job) == (403, "FORBIDDEN_BY_CONFIG", expected)


async def test_tracking_that_a_block_switches_off_is_off_although_the_job_switches_it_on(world: World) -> None:
    on = put("job.features.openTracking.active", True)
    assert (await send(world, changed(on))).status_code == 200
    refused_job = changed(on, put("recipients.0.features", {"linkTracking": {"active": False}}))
    assert (await send(world, refused_job)).status_code == 403


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject.content", "x" * 998),
        ("attachments", [FILE] * 20),
        ("attachments.0.name", "x" * 254),
        ("recipients", [{"mail": {"to": [{"email": "ada@example.org"}]}}] * 100),
        ("recipients.0.mail.to", addresses(998)),
        ("recipients.0.mail.to.0.email", A254),
        ("recipients.0.mail.xHeaders", {f"x-{n}": "v" for n in range(10)}),
        ("recipients.0.mail.listUnsubscribe", ""),
        ("recipients.0.reference", "x" * 50),
        ("job.options", {}),
        ("recipients.0.mail.cc", []),
    ],
)
async def test_what_is_within_the_limits_is_taken(world: World, name: str, value: object) -> None:
    answer = await send(world, changed(put(name, value)))
    assert answer.status_code == 200, answer.text


async def test_a_valid_job_is_answered_in_full(world: World) -> None:
    answer = await send(world, JOB)
    ((job, envelope),) = world.jobs()
    found = answer.json()
    received = found["meta"].pop("receivedTs")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", received)
    assert answer.status_code == 200
    assert found == {
        "meta": {"jobId": job.job_id, "state": {"type": "ACCEPTED", "subType": "FULL", "phase": "PRE_PROCESS"}},
        "content": {
            "recipients": [
                {
                    "mail": {
                        "to": [{"id": f"{job.job_id}#00000000#00000000", "email": "ada@example.org"}],
                        "cc": [{"id": f"{job.job_id}#00000000#00000001", "email": "cc@example.org"}],
                        "bcc": [{"id": f"{job.job_id}#00000000#00000002", "email": "bcc@example.org"}],
                    }
                }
            ]
        },
    }
    assert (job.reference_job, job.cost_center, job.campaign_id) == ("run-42", "cc-9", "spring")
    assert (envelope.mail_from, envelope.header_from) == ("bounce@shop.example", "news@shop.example")
    assert {r.reference for r in envelope.recipients} == {"order-4711"}


async def test_the_message_says_what_the_job_said(world: World) -> None:
    await send(world, JOB)
    message = email.message_from_bytes(world.messages()[0])
    assert message["From"] == "Shop <news@shop.example>"
    assert message["To"] == "Ada Example <ada@example.org>"
    assert message["Cc"] == "cc@example.org"
    assert message["Bcc"] is None
    assert message["Reply-To"] == "Service <service@shop.example>"
    assert message["X-Priority"] == "1"
    assert message["List-Unsubscribe"] == "<mailto:unsubscribe@shop.example>"
    assert (message["x-order"], message["x-run"]) == ("4711", "42")
    assert [part.get_content_type() for part in message.walk() if not part.is_multipart()] == [
        "text/plain",
        "text/html",
        "image/png",
        "application/pdf",
    ]


async def test_some_recipients_that_are_not_valid_make_it_a_part(world: World) -> None:
    to = [{"email": e} for e in ("ada@example.org", "X<ada@nodot>", "admin@example.org")]
    answer = await send(world, changed(put("recipients", [{"mail": {"to": to}}])))
    assert answer.json()["meta"]["state"]["subType"] == "PART"
    job_id = answer.json()["meta"]["jobId"]
    assert answer.json()["content"]["recipients"][0]["mail"]["to"] == [
        {"id": f"{job_id}#00000000#00000000", "email": "ada@example.org"},
        {
            "id": f"{job_id}#00000000#00000001",
            "email": "ada@nodot",
            "validationResult": {"classifier": "INVALID_FORMAT"},
        },
        {
            "id": f"{job_id}#00000000#00000002",
            "email": "admin@example.org",
            "validationResult": {
                "classifier": "FORBIDDEN_RECIPIENT",
                "message": "Reason: Local part forbidden by config",
            },
        },
    ]
    ((_, envelope),) = world.jobs()
    assert [r.invalid for r in envelope.recipients] == [None, "invalid_address", "forbidden_recipient"]


async def test_an_account_may_choose_its_role_recipients(world: World) -> None:
    (entry,) = world.tools.directory.book.all(DirectoryKind.ACCOUNT)
    assert isinstance(entry.record.value, Account)
    await world.registrar.change("10001", entry.record.id, replace(entry.record.value, role_recipients=("Info",)), "t")
    to = [{"email": e} for e in ("admin@example.org", "info@example.org")]
    answer = await send(world, changed(put("recipients", [{"mail": {"to": to}}])))
    found = answer.json()["content"]["recipients"][0]["mail"]["to"]
    assert ["validationResult" in one for one in found] == [False, True]


async def test_when_nobody_is_valid_the_job_is_still_taken_and_tells_why(world: World) -> None:
    answer = await send(world, changed(put("recipients", [{"mail": {"to": [{"email": "nix"}]}}])))
    assert (answer.status_code, answer.json()["meta"]["state"]["subType"]) == (200, "PART")
    assert email.message_from_bytes(world.messages()[0])["To"] == "undisclosed-recipients:;"


async def test_each_block_is_a_message_of_its_own_over_one_body(world: World) -> None:
    blocks = [
        {"mail": {"to": [{"email": "ada@example.org"}, {"email": "a2@example.org"}]}},
        {"mail": {"to": [{"email": "bob@example.org"}], "xHeaders": {"X-RUN": "43"}, "priority": "LOW"}},
    ]
    answer = await send(world, changed(put("recipients", blocks)))
    ((job, envelope),) = world.jobs()
    first, second = answer.json()["content"]["recipients"]
    assert first["mail"]["to"][1]["id"] == f"{job.job_id}#00000000#00000001"
    assert second["mail"]["to"][0]["id"] == f"{job.job_id}#00000001#00000002"
    assert [(r.message, r.block) for r in envelope.recipients] == [(0, 0), (0, 0), (1, 1)]
    assert job.messages[0].content[1] == job.messages[1].content[1]
    assert job.messages[0].body_sha256 == job.messages[1].body_sha256
    one, two = (email.message_from_bytes(message) for message in world.messages())
    assert (one["x-run"], two["X-RUN"], one["X-Priority"], two["X-Priority"]) == ("42", "43", None, "5")
    assert one["Message-ID"] != two["Message-ID"]
    assert "bob" not in one["To"]


async def test_a_trailing_slash_is_the_same_address(world: World) -> None:
    assert (await world.client.post(f"{URL}/", json=JOB, headers=basic(world))).status_code == 200


async def test_without_a_body_there_is_a_subject_alone(world: World) -> None:
    answer = await send(world, changed(drop("body"), drop("alternative"), drop("attachments")))
    assert answer.status_code == 200
    assert email.message_from_bytes(world.messages()[0]).get_payload() == ""


async def test_a_plain_body_leaves_the_alternative_out(world: World) -> None:
    await send(world, changed(put("body.contentType", "text/plain"), drop("attachments")))
    message = email.message_from_bytes(world.messages()[0])
    assert message.get_content_type() == "text/plain"
    assert "cid:logo1" in str(message.get_payload())


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"contentEncoding": "plain", "content": "Grüße"}, "Grüße"),
        ({"contentEncoding": "quoted-printable", "content": "=?UTF-8?Q?Gr=C3=BC=C3=9Fe?="}, "Grüße"),
        ({"contentEncoding": "quoted-printable", "content": "=?UTF-8?Q?Gr=C3=BC?=\r\n =?UTF-8?Q?=C3=9Fe?="}, "Grüße"),
        ({"contentEncoding": "quoted-printable", "content": "=?ISO-8859-1?B?R3L832U=?= Ada"}, "Grüße Ada"),
        ({"contentEncoding": "base64", "content": "R3LDvMOfZQ=="}, "Grüße"),
        ({"contentEncoding": "base64", "charset": "ISO-8859-1", "content": "R3L832U="}, "Grüße"),
        ({"contentEncoding": "base64", "charset": "UTF-16LE", "content": "RwByAPwA3wBlAA=="}, "Grüße"),
        ({"content": "Grüße", "contentTransferEncoding": "base64"}, "Grüße"),
    ],
)
async def test_a_subject_is_read_as_it_is_encoded(world: World, part: dict[str, str], shown: str) -> None:
    answer = await send(world, changed(put("subject", part)))
    assert answer.status_code == 200, answer.text
    ((_, envelope),) = world.jobs()
    assert envelope.subject == shown
    raw = email.message_from_bytes(world.messages()[0])["Subject"]
    assert str(email.header.make_header(email.header.decode_header(raw))) == shown
    assert ("?b?" in raw) or "contentTransferEncoding" not in part


@pytest.mark.parametrize(
    ("part", "shown", "charset"),
    [
        ({"contentEncoding": "quoted-printable", "content": "Gr=C3=BC=\r\n=C3=9Fe"}, "Grüße", "utf-8"),
        ({"contentEncoding": "base64", "charset": "ISO-8859-1", "content": "R3L832U="}, "Grüße", "iso-8859-1"),
        ({"charset": "UTF-16", "content": "Grüße"}, "Grüße", "utf-8"),
        ({"content": "Grüße", "contentTransferEncoding": "base64"}, "Grüße", "utf-8"),
    ],
)
async def test_a_body_is_read_as_it_is_encoded(world: World, part: dict[str, str], shown: str, charset: str) -> None:
    body = {"contentType": "text/plain", **part}
    answer = await send(world, changed(put("body", body), drop("alternative"), drop("attachments")))
    assert answer.status_code == 200, answer.text
    message = email.message_from_bytes(world.messages()[0])
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert (content.decode(charset), message.get_content_charset()) == (f"{shown}\r\n", charset)
    if "contentTransferEncoding" in part:
        assert message["Content-Transfer-Encoding"] == "base64"


@pytest.mark.parametrize("part", [{"charset": "US-ASCII", "content": "R3L832U="}, {"content": "R3L832U="}])
async def test_bytes_of_another_charset_than_they_say_are_refused(world: World, part: dict[str, str]) -> None:
    job = changed(put("body", {"contentType": "text/plain", "contentEncoding": "base64", **part}))
    assert await refused(world, job) == (400, "INVALID_FORMAT", "Invalid format for body.content")


@pytest.mark.parametrize("content", [b"{", b"[1,", b"\xff\xfe", b"[" * 50_000, b""])
async def test_what_is_no_json_is_told_so(world: World, content: bytes) -> None:
    answer = await world.client.post(URL, content=content, headers=basic(world))
    state = answer.json()["meta"]["state"]
    assert (answer.status_code, state["subType"]) == (400, "INVALID_JSON_SYNTAX")
    assert state["description"]


@pytest.mark.parametrize("content", [b"[]", b"null", b"7", b'"x"'])
async def test_json_that_is_no_object_is_refused(world: World, content: bytes) -> None:
    answer = await world.client.post(URL, content=content, headers=basic(world))
    assert (answer.status_code, answer.json()["meta"]["state"]["subType"]) == (400, "INVALID_FORMAT")


async def test_a_body_above_the_limit_is_a_413(world: World) -> None:
    answer = await world.client.post(URL, content=b" " * 20_971_521, headers=basic(world))
    state = answer.json()["meta"]["state"]
    assert (answer.status_code, state["subType"]) == (413, "LIMIT_EXCEEDED")
    assert state["description"] == "Request body size limit exceeded"


@pytest.mark.parametrize(
    "authorization",
    ["", "Basic", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Basic Zm9vOmJhcg==", "Bearer x"],
)
async def test_a_wrong_login_is_unauthorized_without_a_description(world: World, authorization: str) -> None:
    answer = await world.client.post(URL, json=JOB, headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["meta"]["state"] == {
        "type": "REJECTED",
        "subType": "UNAUTHORIZED",
        "phase": "PRE_PROCESS",
    }
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_an_outage_is_a_503_in_the_vendors_words(world: World) -> None:
    world.tools.hallway.ready = False
    answer = await send(world, JOB)
    assert (answer.status_code, answer.json()["meta"]["state"]["subType"]) == (503, "INTERNAL_ERROR")
    assert answer.headers["retry-after"] == "5"


async def test_an_unexpected_exception_is_a_500_in_the_vendors_words(world: World) -> None:
    world.archive.contents = None  # type: ignore[assignment]
    answer = await send(world, JOB)
    assert answer.status_code == 500
    assert answer.json()["meta"]["state"] == {
        "type": "REJECTED",
        "subType": "INTERNAL_ERROR",
        "phase": "PRE_PROCESS",
    }


async def test_an_idempotency_key_works_here_too(world: World) -> None:
    first = await send(world, JOB, **{"Idempotency-Key": "a"})
    again = await send(world, JOB, **{"Idempotency-Key": "a"})
    other = await send(world, changed(put("subject.content", "x")), **{"Idempotency-Key": "a"})
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, len(world.jobs())) == (400, 1)


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("127.0.0.1", [("X-Real-IP", "192.0.2.7")], "192.0.2.7"),
        ("127.0.0.1", [("X-Real-IP", "::ffff:192.0.2.7")], "192.0.2.7"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [("X-Real-IP", "nonsense")], "127.0.0.1"),
        ("127.0.0.1", [("X-Real-IP", "192.0.2.7"), ("X-Real-IP", "192.0.2.8")], "127.0.0.1"),
        ("127.0.0.1", [("X-Forwarded-For", "192.0.2.7")], "127.0.0.1"),
        ("198.51.100.9", [("X-Real-IP", "192.0.2.7")], "198.51.100.9"),
    ],
)
async def test_x_real_ip_counts_only_from_our_own_proxy(
    tmp_path: Any, peer: str, headers: list[tuple[str, str]], client: str
) -> None:
    world = await a_world(tmp_path, Settings(rest=RestSettings(trusted_proxies=("127.0.0.1",))))
    transport = httpx.ASGITransport(app=world.app, client=(peer, 4000))
    async with httpx.AsyncClient(transport=transport, base_url="http://depesche.test") as caller:
        answer = await caller.post(URL, json=JOB, headers=[*basic(world).items(), *headers])
    assert answer.status_code == 200
    ((_, envelope),) = world.jobs()
    assert envelope.client == client
