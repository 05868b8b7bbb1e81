"""The native API: what is taken, what is refused, and in which words."""

from __future__ import annotations

import base64
import email
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.records import Account, DirectoryKind, Interface, RecipientKind

from .conftest import World

MAIL: dict[str, Any] = {
    "from": "Shop <news@shop.example>",
    "to": ["Ada <ada@example.org>"],
    "subject": "Hello",
    "text": "It works.",
}


async def send(world: World, mail: dict[str, Any], **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.client.post("/v1/emails", json=mail, headers={**world.bearer, **named})


def first_pointer(answer: httpx.Response) -> str:
    return str(answer.json()["errors"][0]["pointer"])


async def test_an_email_is_taken_and_its_job_is_in_the_log(world: World) -> None:
    answer = await send(world, {**MAIL, "reference": "order-1", "campaign_id": "spring", "cost_center": "cc"})
    assert answer.status_code == 202
    ((job, envelope),) = world.jobs()
    assert answer.json()["id"] == job.job_id
    assert answer.headers["location"] == f"/v1/emails/{job.job_id}"
    assert (job.tenant, job.interface, job.sender_domain) == ("10001", Interface.REST, "shop.example")
    assert (job.reference_job, job.campaign_id, job.cost_center) == ("order-1", "spring", "cc")
    assert (envelope.mail_from, envelope.subject, envelope.client) == ("news@shop.example", "Hello", "127.0.0.1")
    assert [r.reference for r in envelope.recipients] == ["order-1"]
    assert b"ada@example.org" not in b"".join(value or b"" for _, _, value in world.log.records)


async def test_all_roles_are_units_and_a_blind_copy_is_not_in_what_is_sent(world: World) -> None:
    answer = await send(world, {**MAIL, "cc": ["cc@example.org"], "bcc": [{"email": "bcc@example.org", "name": "B"}]})
    kinds = [(unit["to"], unit["kind"]) for unit in answer.json()["units"]]
    assert kinds == [("ada@example.org", "to"), ("cc@example.org", "cc"), ("bcc@example.org", "bcc")]
    ((job, envelope),) = world.jobs()
    assert [r.kind for r in envelope.recipients] == [RecipientKind.TO, RecipientKind.CC, RecipientKind.BCC]
    assert answer.json()["units"][2]["id"] == f"{job.job_id}.2"
    (message,) = world.messages()
    assert b"bcc@" not in message
    assert email.message_from_bytes(message)["Cc"] == "cc@example.org"


async def test_everything_that_can_be_said_arrives_in_the_message(world: World) -> None:
    answer = await send(
        world,
        {
            **MAIL,
            "from": {"email": "news@shop.example", "name": "Der Laden für alles"},
            "reply_to": "service@shop.example",
            "html": '<img src="cid:logo">',
            "headers": {"X-Order": "4711 für Ada"},
            "priority": "high",
            "in_reply_to": "<earlier@shop.example>",
            "list_unsubscribe": "https://shop.example/u",
            "attachments": [
                {"filename": "logo.png", "content": "iVBORw0KGgo=", "content_type": "image/png", "content_id": "logo"},
                {"filename": "Rechnung Ü.pdf", "content": base64.b64encode(b"%PDF").decode()},
            ],
        },
    )
    assert answer.status_code == 202, answer.text
    message = email.message_from_bytes(world.messages()[0])
    assert (message["Reply-To"], message["X-Priority"]) == ("service@shop.example", "1")
    assert (message["In-Reply-To"], message["List-Unsubscribe"]) == (
        "<earlier@shop.example>",
        "<https://shop.example/u>",
    )
    names = [part.get_filename() for part in message.walk() if part.get_filename()]
    assert names == ["logo.png", "Rechnung Ü.pdf"]


async def test_an_invalid_recipient_refuses_nobody_else(world: World) -> None:
    answer = await send(world, {**MAIL, "to": ["ada@example.org", "nobody@nodot", "postmaster@example.org"]})
    assert answer.status_code == 202
    refused = [unit["refused"] and unit["refused"]["code"] for unit in answer.json()["units"]]
    assert refused == [None, "invalid_address", "forbidden_recipient"]
    ((_, envelope),) = world.jobs()
    assert [r.invalid for r in envelope.recipients] == [None, "invalid_address", "forbidden_recipient"]
    assert email.message_from_bytes(world.messages()[0])["To"] == "ada@example.org, postmaster@example.org"


@pytest.mark.parametrize(
    ("change", "status", "code", "pointer"),
    [
        ({"subject": None}, 422, "invalid_value", "/subject"),
        ({"subject": ""}, 422, "invalid_value", "/subject"),
        ({"subject": "x" * 999}, 422, "invalid_value", "/subject"),
        ({"subject": "a\r\nBcc: x@y.example"}, 422, "invalid_value", "/subject"),
        ({"subject": "=?utf-8?q?a=0D=0ABcc:_x?="}, 422, "invalid_value", "/subject"),
        ({"to": []}, 422, "invalid_value", "/to"),
        ({"to": "ada@example.org"}, 422, "invalid_value", "/to"),
        ({"to": [7]}, 422, "invalid_value", "/to/0"),
        ({"to": [{"email": "a@b.example", "nome": "A"}]}, 422, "invalid_value", "/to/0/nome"),
        ({"to": ["a@b.example"] * 1001}, 422, "invalid_value", "/to"),
        ({"to": ["a@b.example"] * 600, "cc": ["a@b.example"] * 401}, 422, "limit_exceeded", "/to"),
        ({"from": "no address"}, 422, "invalid_value", "/from"),
        ({"from": "news@other.example"}, 403, "forbidden_sender", "/from"),
        ({"from": "news@sub.shop.example"}, 403, "forbidden_sender", "/from"),
        ({"from": "postmaster@shop.example"}, 403, "forbidden_sender", "/from"),
        ({"text": None}, 422, "missing_value", "/text"),
        ({"reply_to": ["a@b.example", "nix"]}, 422, "invalid_value", "/reply_to/1"),
        ({"headers": {"Bcc": "x@y.example"}}, 422, "invalid_value", "/headers/Bcc"),
        ({"headers": {"X-A": "a\nb"}}, 422, "invalid_value", "/headers/X-A"),
        ({"headers": {"X-A": 7}}, 422, "invalid_value", "/headers/X-A"),
        ({"priority": "urgent"}, 422, "invalid_value", "/priority"),
        ({"in_reply_to": "a b"}, 422, "invalid_value", "/in_reply_to"),
        ({"list_unsubscribe": "http://x.example"}, 422, "invalid_value", "/list_unsubscribe"),
        ({"reference": "x" * 51}, 422, "invalid_value", "/reference"),
        ({"attachments": [{"filename": "a.exe", "content": ""}]}, 403, "forbidden", "/attachments/0/filename"),
        ({"attachments": [{"filename": "a.EXE. ", "content": ""}]}, 403, "forbidden", "/attachments/0/filename"),
        ({"attachments": [{"filename": "a.txt", "content": "%"}]}, 422, "invalid_value", "/attachments/0/content"),
        (
            {"attachments": [{"filename": "a.txt", "content": "", "content_type": "nothing"}]},
            422,
            "invalid_value",
            "/attachments/0/content_type",
        ),
        (
            {"html": "x", "attachments": [{"filename": "a.txt", "content": "", "content_id": "a b"}]},
            422,
            "invalid_value",
            "/attachments/0/content_id",
        ),
        ({"attachments": [{"filename": "a", "content": ""}] * 21}, 422, "invalid_value", "/attachments"),
        ({"subjekt": "x"}, 422, "invalid_value", "/subjekt"),
        ({"template": "Hello ${name}"}, 501, "not_available_yet", "/template"),
        ({"track_opens": True}, 501, "not_available_yet", "/track_opens"),
        ({"send_at": "2030-01-01T00:00:00Z"}, 501, "not_available_yet", "/send_at"),
        ({"secure_documents": True}, 501, "not_available_yet", "/secure_documents"),
        ({"webhook": "https://x.example"}, 501, "not_available_yet", "/webhook"),
        ({"messages": []}, 501, "not_available_yet", "/messages"),
    ],
)
async def test_what_is_refused_says_what_and_where(
    world: World, change: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    mail = {name: value for name, value in {**MAIL, **change}.items() if value is not None or name == "subject"}
    answer = await send(world, mail)
    assert (answer.status_code, answer.json()["code"], first_pointer(answer)) == (status, code, pointer), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"http://127.0.0.1:8025/errors/{code}"
    assert world.jobs() == []


async def test_a_misspelled_key_is_named_with_what_was_meant(world: World) -> None:
    answer = await send(world, {**MAIL, "subjekt": "x"})
    (fault,) = answer.json()["errors"]
    assert fault["code"] == "unknown_key"
    assert fault["message"] == "'subjekt' is not a key of this request; did you mean subject?"


async def test_several_faults_are_told_at_once(world: World) -> None:
    answer = await send(world, {"to": [], "subjekt": 1})
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {"/from", "/to", "/subject", "/subjekt"}


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer nonsense", "Bearer dp_live_aaaaaaaaaa_bbbb", "Basic Zm9vOmJhcg==", "Bearer " + "x" * 5000],
)
async def test_without_a_right_key_nothing_is_said(world: World, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = await world.client.post("/v1/emails", json=MAIL, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Bearer realm="depesche"'


async def test_an_operators_key_does_not_send(world: World) -> None:
    answer = await world.client.post("/v1/emails", json=MAIL, headers=world.as_operator)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_request"),
        (b"\xff", "application/json", 400, "malformed_request"),
        (b'"\\ud800"', "application/json", 400, "malformed_request"),
        (b"[" * 100_000, "application/json", 400, "malformed_request"),
        (b"", "application/json", 400, "malformed_request"),
        (b"[]", "application/json", 422, "invalid_value"),
        (b"null", "application/json", 422, "invalid_value"),
        (b"from=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(
    world: World, content: bytes, kind: str, status: int, code: str
) -> None:
    answer = await world.client.post("/v1/emails", content=content, headers={**world.bearer, "Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_compressed_body_is_refused(world: World) -> None:
    answer = await send(world, MAIL, Content_Encoding="gzip")
    assert answer.status_code == 415


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(world: World) -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b" " * 1_000_000

    headers = {**world.bearer, "Content-Type": "application/json"}
    answer = await world.client.post("/v1/emails", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert asked <= 22
    said = await world.client.post("/v1/emails", content=b"{}", headers={**headers, "Content-Length": "20971521"})
    assert said.status_code == 413


async def test_a_body_of_exactly_the_limit_is_read(world: World) -> None:
    mail = orjson.dumps(MAIL)
    content = mail + b" " * (20_971_520 - len(mail))
    headers = {**world.bearer, "Content-Type": "application/json"}
    assert (await world.client.post("/v1/emails", content=content, headers=headers)).status_code == 202


async def test_a_message_above_twenty_megabytes_is_refused_although_its_request_is_smaller(world: World) -> None:
    answer = await send(world, {**MAIL, "text": "ü" * 8_000_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_an_unknown_parameter_is_refused(world: World) -> None:
    answer = await world.client.post("/v1/emails?dry_run=true", json=MAIL, headers=world.bearer)
    assert (answer.status_code, first_pointer(answer)) == (422, "dry_run")
    assert world.jobs() == []


@pytest.mark.parametrize("key", ["abc", '"abc"', '"with blanks"', '"a\\"b"', "x" * 255])
async def test_the_same_key_with_the_same_body_sends_once(world: World, key: str) -> None:
    first = await send(world, MAIL, Idempotency_Key=key)
    again = await world.client.post(
        "/v1/emails",
        content=orjson.dumps(dict(reversed(MAIL.items()))),
        headers={**world.bearer, "Idempotency-Key": key, "Content-Type": "application/json"},
    )
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(world.jobs()) == 1


async def test_a_quoted_and_a_bare_key_are_the_same(world: World) -> None:
    await send(world, MAIL, Idempotency_Key="abc")
    assert (await send(world, MAIL, Idempotency_Key='"abc"')).headers["idempotent-replayed"] == "true"


async def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    await send(world, MAIL, Idempotency_Key="abc")
    answer = await send(world, {**MAIL, "text": "other"}, Idempotency_Key="abc")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert len(world.jobs()) == 1


@pytest.mark.parametrize("key", ["", '""', '"', "a b", "x" * 256, 'a"b'])
async def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    answer = await send(world, MAIL, Idempotency_Key=key)
    assert (answer.status_code, first_pointer(answer)) == (422, "Idempotency-Key")


async def test_a_key_given_twice_is_refused(world: World) -> None:
    headers = [("Authorization", f"Bearer {world.token}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await world.client.post("/v1/emails", json=MAIL, headers=headers)
    assert answer.status_code == 422


async def test_an_outage_says_when_to_ask_again(world: World) -> None:
    world.tools.hallway.ready = False
    answer = await send(world, MAIL)
    assert (answer.status_code, answer.json()["code"]) == (503, LogUnavailableError.code)
    assert answer.json()["retryable"] is True
    assert answer.headers["retry-after"] == "5"


async def test_an_exception_nobody_expected_gives_away_nothing(world: World) -> None:
    world.archive.contents = None  # type: ignore[assignment]
    answer = await send(world, MAIL)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "NoneType" not in answer.text
    assert answer.json()["trace_id"] == answer.headers["x-request-id"]


async def test_a_trace_that_comes_in_is_kept(world: World) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await send(world, {}, Traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert answer.json()["trace_id"] == trace


async def test_an_account_bound_to_addresses_is_refused_from_elsewhere(world: World) -> None:
    (entry,) = world.tools.directory.book.all(DirectoryKind.ACCOUNT)
    account = entry.record.value
    assert isinstance(account, Account)
    await change_account(world, source_ips=("192.0.2.7",))
    assert (await send(world, MAIL)).status_code == 403
    assert (await send(world, MAIL, X_Real_IP="192.0.2.7")).status_code == 403
    await change_account(world, source_ips=("127.0.0.1",))
    assert (await send(world, MAIL)).status_code == 202


async def test_an_account_for_smtp_only_may_not_use_rest(world: World) -> None:
    await change_account(world, interfaces=(Interface.SMTP,))
    assert (await send(world, MAIL)).status_code == 403


async def change_account(world: World, **values: Any) -> None:
    from dataclasses import replace

    (entry,) = world.tools.directory.book.all(DirectoryKind.ACCOUNT)
    assert isinstance(entry.record.value, Account)
    await world.registrar.change("10001", entry.record.id, replace(entry.record.value, **values), "test")
