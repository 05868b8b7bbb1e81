"""The directory by REST: who may manage what, and that a secret is shown once."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest

from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.pools import OPERATOR
from depesche.schemas.codec import decode
from depesche.schemas.errors import UnauthorizedError
from depesche.schemas.records import CredentialUse, DirectoryKind, DirectoryRecord, Pool, PoolAddress

from .conftest import World


@pytest.fixture
async def manager(world: World) -> dict[str, str]:
    """A key that manages the shop's own things, and nobody else's."""
    account = next(world.tools.directory.book.all(DirectoryKind.ACCOUNT)).record.id
    answer = await world.client.post(
        "/v1/keys",
        json={"account": account, "name": "manager", "scopes": ["manage"]},
        headers=world.as_operator,
    )
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


async def a_rival(world: World) -> str:
    """Another customer with an account; gives the account's id."""
    await world.client.post("/v1/customers", json={"id": "10002", "name": "Rival"}, headers=world.as_operator)
    answer = await world.client.post(
        "/v1/accounts", json={"customer": "10002", "name": "rival"}, headers=world.as_operator
    )
    return str(answer.json()["id"])


async def test_an_operator_builds_a_customer_from_nothing_to_the_first_mail(world: World) -> None:
    ask, operator = world.client, world.as_operator
    made = await ask.post("/v1/customers", json={"id": "20001", "name": "Neu"}, headers=operator)
    assert (made.status_code, made.headers["location"]) == (201, "/v1/customers/20001")
    account = await ask.post("/v1/accounts", json={"customer": "20001", "name": "neu"}, headers=operator)
    domain = await ask.post("/v1/domains", json={"customer": "20001", "name": "Neu.Example"}, headers=operator)
    assert domain.json()["name"] == "neu.example"
    (key,) = domain.json()["dkim"]
    assert key["record_name"] == "d1._domainkey.neu.example"
    assert key["record_value"].startswith("v=DKIM1; k=rsa; p=")
    fresh = await ask.post("/v1/keys", json={"account": account.json()["id"], "name": "k"}, headers=operator)
    mail = {"from": "a@neu.example", "to": ["ada@example.org"], "subject": "x", "text": "x"}
    sent = await ask.post("/v1/emails", json=mail, headers={"Authorization": f"Bearer {fresh.json()['token']}"})
    assert sent.status_code == 202


async def test_a_secret_is_shown_once(world: World) -> None:
    account = next(world.tools.directory.book.all(DirectoryKind.ACCOUNT)).record.id
    made = await world.client.post(
        "/v1/keys", json={"account": account, "name": "relay", "use": "login"}, headers=world.as_operator
    )
    secret = made.json()["password"]
    assert (made.json()["user"], made.json()["token"]) == (made.json()["id"], None)
    shown = await world.client.get(f"/v1/keys/{made.json()['id']}", headers=world.as_operator)
    listed = await world.client.get("/v1/keys", headers=world.as_operator)
    assert shown.json()["hint"] == secret[-4:]
    assert secret not in shown.text + listed.text
    assert world.tools.directory.login(made.json()["user"], secret).account == account


async def test_a_key_is_restricted_disabled_and_removed_at_once(world: World) -> None:
    account = next(world.tools.directory.book.all(DirectoryKind.ACCOUNT)).record.id
    body = {"account": account, "name": "reader", "scopes": ["read"], "expires_at": 4_000_000_000_000}
    made = (await world.client.post("/v1/keys", json=body, headers=world.as_operator)).json()
    assert (made["scopes"], made["expires_at"]) == (["read"], 4_000_000_000_000)
    mail = {"from": "a@shop.example", "to": ["ada@example.org"], "subject": "x", "text": "x"}
    bearer = {"Authorization": f"Bearer {made['token']}"}
    assert (await world.client.post("/v1/emails", json=mail, headers=bearer)).status_code == 403
    path = f"/v1/keys/{made['id']}"
    await world.client.patch(path, json={"scopes": ["send"]}, headers=world.as_operator)
    assert (await world.client.post("/v1/emails", json=mail, headers=bearer)).status_code == 202
    await world.client.patch(path, json={"status": "disabled"}, headers=world.as_operator)
    assert (await world.client.post("/v1/emails", json=mail, headers=bearer)).status_code == 401
    assert (await world.client.delete(path, headers=world.as_operator)).status_code == 204
    assert (await world.client.get(path, headers=world.as_operator)).status_code == 404


async def test_what_is_left_out_of_a_change_stays(world: World) -> None:
    account = next(world.tools.directory.book.all(DirectoryKind.ACCOUNT)).record.id
    path = f"/v1/accounts/{account}"
    first = await world.client.patch(
        path, json={"source_ips": ["192.0.2.7", "2001:db8::1"], "role_recipients": ["info"]}, headers=world.as_operator
    )
    assert first.json()["source_ips"] == ["192.0.2.7", "2001:db8::1"]
    second = await world.client.patch(path, json={"name": "other"}, headers=world.as_operator)
    assert (second.json()["name"], second.json()["role_recipients"]) == ("other", ["info"])
    third = await world.client.patch(path, json={"role_recipients": None, "name": None}, headers=world.as_operator)
    assert (third.json()["name"], third.json()["role_recipients"]) == ("other", None)
    shown = await world.client.get(path, headers=world.as_operator)
    assert shown.json() == third.json()


async def test_a_domain_may_insist_on_tls(world: World) -> None:
    given = {"customer": "10001", "name": "strict.example", "tls": "must"}
    made = await world.client.post("/v1/domains", json=given, headers=world.as_operator)
    assert (made.status_code, made.json()["tls"]) == (201, "must")
    path = "/v1/domains/strict.example"
    changed = await world.client.patch(path, json={"tls": "may"}, headers=world.as_operator)
    assert changed.json()["tls"] == "may"
    kept = await world.client.patch(path, json={"client": "x", "tls": None}, headers=world.as_operator)
    assert kept.json()["tls"] == "may"
    refused = await world.client.patch(path, json={"tls": "never"}, headers=world.as_operator)
    assert refused.status_code == 422


async def test_dkim_keys_are_added_and_switched_off(world: World) -> None:
    path = "/v1/domains/shop.example/dkim"
    made = await world.client.post(path, json={"algorithm": "ed25519-sha256"}, headers=world.as_operator)
    assert made.status_code == 201
    assert made.json()["record_value"].startswith("v=DKIM1; k=ed25519; p=")
    selector = made.json()["selector"]
    off = await world.client.patch(f"{path}/{selector}", json={"active": False}, headers=world.as_operator)
    assert off.json()["active"] is False
    assert (
        await world.client.patch(f"{path}/zz", json={"active": False}, headers=world.as_operator)
    ).status_code == 404


async def test_the_first_registration_of_a_domain_wins(world: World) -> None:
    await a_rival(world)
    answer = await world.client.post(
        "/v1/domains", json={"customer": "10002", "name": "shop.example"}, headers=world.as_operator
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_a_manager_manages_its_own_customer_only(world: World, manager: dict[str, str]) -> None:
    rival = await a_rival(world)
    ask = world.client
    mine = await ask.post("/v1/accounts", json={"name": "second"}, headers=manager)
    assert (mine.status_code, mine.json()["customer"]) == (201, "10001")
    for method, path, body in (
        ("GET", f"/v1/accounts/{rival}", None),
        ("PATCH", f"/v1/accounts/{rival}", {"name": "mine now"}),
        ("DELETE", f"/v1/accounts/{rival}", None),
        ("GET", "/v1/customers/10002", None),
        ("POST", "/v1/keys", {"account": rival, "name": "k"}),
    ):
        assert (await ask.request(method, path, json=body, headers=manager)).status_code == 404, path
    for path, body in (
        ("/v1/accounts", {"customer": "10002", "name": "x"}),
        ("/v1/domains", {"customer": "10002", "name": "x.example"}),
        ("/v1/customers", {"id": "3", "name": "x"}),
        ("/v1/keys", {"name": "k", "use": "operator"}),
    ):
        assert (await ask.post(path, json=body, headers=manager)).status_code == 403, path
    listed = await ask.get("/v1/accounts", headers=manager)
    assert {one["customer"] for one in listed.json()["data"]} == {"10001"}
    assert (await ask.get("/v1/accounts?customer=10002", headers=manager)).status_code == 403


async def test_an_operator_of_one_customer_is_no_operator_of_the_service(world: World) -> None:
    await a_rival(world)
    local = await world.registrar.add_key("", "local", CredentialUse.OPERATOR, "test", tenant="10001")
    headers = {"Authorization": f"Bearer {local.token}"}
    assert (await world.client.get("/v1/customers/10002", headers=headers)).status_code == 404
    assert (await world.client.get("/v1/customers/10001", headers=headers)).status_code == 200
    made = await world.client.post("/v1/keys", json={"name": "n", "use": "operator"}, headers=headers)
    assert made.json()["customer"] == "10001"


async def test_only_the_service_locks_and_unlocks(world: World, manager: dict[str, str]) -> None:
    path = "/v1/domains/shop.example"
    assert (await world.client.patch(path, json={"status": "locked"}, headers=manager)).status_code == 403
    assert (await world.client.patch(path, json={"status": "locked"}, headers=world.as_operator)).status_code == 200
    assert (await world.client.patch(path, json={"status": "active"}, headers=manager)).status_code == 403
    assert (await world.client.patch(path, json={"client": "label"}, headers=manager)).status_code == 200


async def test_a_plain_api_key_manages_nothing(world: World) -> None:
    for path in ("/v1/customers", "/v1/accounts", "/v1/domains", "/v1/keys"):
        assert (await world.client.get(path, headers=world.bearer)).status_code == 403
        assert (await world.client.get(path)).status_code == 401


async def test_a_customer_with_things_left_is_not_removed(world: World) -> None:
    answer = await world.client.delete("/v1/customers/10001", headers=world.as_operator)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    await world.client.post("/v1/customers", json={"id": "3", "name": "Empty"}, headers=world.as_operator)
    assert (await world.client.delete("/v1/customers/3", headers=world.as_operator)).status_code == 204


async def test_lists_are_read_page_by_page(world: World) -> None:
    for number in range(7):
        await world.client.post(
            "/v1/accounts", json={"customer": "10001", "name": f"n{number}"}, headers=world.as_operator
        )
    names: list[str] = []
    path: str | None = "/v1/accounts?limit=3&customer=10001"
    while path:
        answer: httpx.Response = await world.client.get(path, headers=world.as_operator)
        names += [one["name"] for one in answer.json()["data"]]
        following = answer.links.get("next")
        assert answer.json()["has_more"] is (following is not None)
        path = following["url"] if following else None
    assert sorted(names) == sorted(["shop", *(f"n{n}" for n in range(7))])
    assert (await world.client.get("/v1/accounts?cursor=%21%21", headers=world.as_operator)).status_code == 422
    assert (await world.client.get("/v1/accounts?limit=201", headers=world.as_operator)).status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/customers", {"id": "a/b", "name": "x"}, "/id"),
        ("/v1/customers", {"id": "*", "name": "x"}, "/id"),
        ("/v1/customers", {"id": "1"}, "/name"),
        ("/v1/accounts", {"name": "x"}, "/customer"),
        ("/v1/accounts", {"customer": "10001", "name": "x", "source_ips": ["10.0.0.0/8"]}, "/source_ips"),
        ("/v1/accounts", {"customer": "10001", "name": "x", "interfaces": ["fax"]}, "/interfaces/0"),
        ("/v1/domains", {"customer": "10001", "name": "no domain"}, ""),
        ("/v1/keys", {"name": "x"}, "/account"),
        ("/v1/keys", {"account": "a", "name": "x", "secret": "mine"}, "/secret"),
    ],
)
async def test_what_is_not_valid_is_pointed_at(world: World, path: str, body: dict[str, Any], pointer: str) -> None:
    answer = await world.client.post(path, json=body, headers=world.as_operator)
    assert answer.status_code == 422, answer.text
    assert [fault["pointer"] for fault in answer.json().get("errors", [{"pointer": ""}])] == [pointer]


async def test_every_change_is_in_the_audit_topic_with_who_made_it(world: World) -> None:
    before = len(world.log.records)
    await world.client.patch("/v1/domains/shop.example", json={"pool": "shared"}, headers=world.as_operator)
    written = [(topic, decode(DirectoryRecord, value)) for topic, _, value in world.log.records[before:] if value]
    assert [topic for topic, _ in written] == ["mail.audit", "mail.directory"]
    operator = world.operator.removeprefix("dp_live_").partition("_")[0]
    assert {record.changed_by for _, record in written} == {operator}


async def test_a_key_without_an_end_works_however_fast_the_clock_runs(world: World) -> None:
    ticks = itertools.count(1)
    hasty = Directory(world.tools.settings, world.keyring, lambda: next(ticks))
    hasty.book = world.tools.directory.book
    assert [hasty.bearer(world.token).tenant for _ in range(10)] == ["10001"] * 10


async def test_a_key_stops_at_the_millisecond_it_expires(world: World) -> None:
    account = next(world.tools.directory.book.all(DirectoryKind.ACCOUNT)).record.id
    body = {"account": account, "name": "short", "expires_at": 1000}
    token = (await world.client.post("/v1/keys", json=body, headers=world.as_operator)).json()["token"]
    for now, works in ((999, True), (1000, False)):
        at = Directory(world.tools.settings, world.keyring, lambda now=now: now)  # type: ignore[misc]
        at.book = world.tools.directory.book
        if works:
            assert at.bearer(token).account == account
        else:
            with pytest.raises(UnauthorizedError):
                at.bearer(token)


async def test_a_pool_shows_its_warm_up_and_keeps_it_when_its_addresses_change(world: World) -> None:
    ask, operator = world.client, world.as_operator
    address = {"ip": "192.0.2.1", "helo": "out1.example.org"}
    made = await ask.post("/v1/pools", json={"name": "vip", "addresses": [address]}, headers=operator)
    assert made.status_code == 201, made.text
    assert made.json() == {
        "name": "vip",
        "addresses": [{**address, "warm_up_from": None}],
        "warm_up_plan": [],
        "overflow_pool": None,
    }
    begun = PoolAddress(ip="192.0.2.1", helo="out1.example.org", warm_up_from=1_767_225_600_000)
    cold = Pool(addresses=(begun,), warm_up_plan=(50, 100), overflow_pool="shared")
    await world.registrar.change(OPERATOR, "vip", cold, "test")
    shown = await ask.get("/v1/pools/vip", headers=operator)
    assert shown.json() == {
        "name": "vip",
        "addresses": [{**address, "warm_up_from": "2026-01-01"}],
        "warm_up_plan": [50, 100],
        "overflow_pool": "shared",
    }
    changed = await ask.patch("/v1/pools/vip", json={"addresses": [address, {"ip": "192.0.2.2"}]}, headers=operator)
    assert [one["warm_up_from"] for one in changed.json()["addresses"]] == ["2026-01-01", None]
    assert (await ask.get("/v1/pools", headers=world.bearer)).status_code == 403
