"""The suppression list over REST: added, refused at both doors, explained, listed by page, lifted; each customer its own."""

from __future__ import annotations

from typing import Any

from depesche.api.rest.models_suppressions import SuppressionOut
from depesche.schemas.records import CredentialUse

from .conftest import World

PATH = "/v1/suppressions"
ADDRESS = "Ada@Example.org"


async def suppress(world: World, address: str = ADDRESS, **more: Any) -> dict[str, Any]:
    body = {"address": address, "customer": "10001", **more}
    answer = await world.client.post(PATH, json=body, headers=world.as_operator)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_an_address_is_suppressed_and_the_answer_says_why(world: World) -> None:
    made = await suppress(world, note="letter of 3 March")
    assert made["address"] == "Ada@example.org"
    assert (made["would_be_sent"], made["code"]) == (False, "suppressed")
    assert made["finding"].endswith('reason="suppressed by hand (letter of 3 March)"')
    shown = await world.client.get(f"{PATH}/ada@example.org", headers=world.bearer)
    entry = shown.json()["suppression"]
    assert set(entry) == set(SuppressionOut.model_fields)
    assert (entry["state"], entry["reason"], entry["until"], entry["note"]) == (
        "active",
        "manual",
        None,
        "letter of 3 March",
    )
    assert entry["evidence"][0]["type"] == "request"


async def test_the_native_door_refuses_it_and_takes_the_others(world: World) -> None:
    await suppress(world, reason="bounced", days=7)
    body = {"from": "news@shop.example", "to": ["ada@example.org", "bob@example.org"], "subject": "s", "text": "t"}
    answer = await world.client.post("/v1/emails", json=body, headers=world.bearer)
    assert answer.status_code == 202
    refused = [unit["refused"] for unit in answer.json()["units"]]
    assert [one["code"] if one else None for one in refused] == ["previously_bounced", None]
    [(_, envelope)] = world.jobs()
    assert [recipient.invalid for recipient in envelope.recipients] == ["previously_bounced", None]


async def test_the_job_interface_names_the_kinds_of_suppression(world: World) -> None:
    for name, reason, days in (("a", "bounced", 45), ("b", "temporary", 1), ("c", "complained", 0), ("d", "manual", 0)):
        await suppress(world, f"{name}@example.org", reason=reason, days=days)
    job = {
        "subject": {"content": "s"},
        "body": {"contentType": "text/plain", "content": "t"},
        "recipients": [{"mail": {"to": [{"email": f"{name}@example.org"} for name in "abcde"]}}],
        "mail": {"from": {"email": "news@shop.example"}},
    }
    answer = (await world.client.post("/rest/v2/jobs", json=job, auth=world.login)).json()
    assert answer["meta"]["state"]["subType"] == "PART"
    [block] = answer["content"]["recipients"]
    found = [one.get("validationResult", {}).get("classifier") for one in block["mail"]["to"]]
    assert found == ["PREVIOUSLY_BOUNCED", "TEMPORARY_SUPPRESSED", "SUPPRESSED", "SUPPRESSED", None]


async def test_lifted_it_gets_mail_again(world: World) -> None:
    await suppress(world)
    gone = await world.client.delete(
        f"{PATH}/ada@example.org", params={"customer": "10001", "note": "asked us"}, headers=world.as_operator
    )
    assert gone.status_code == 204
    found = (await world.client.get(f"{PATH}/ada@example.org", headers=world.bearer)).json()
    assert found["would_be_sent"]
    assert (found["suppression"]["state"], found["suppression"]["lifted_note"]) == ("lifted", "asked us")
    unknown = await world.client.delete(
        f"{PATH}/nobody@example.org", params={"customer": "10001"}, headers=world.as_operator
    )
    assert unknown.status_code == 404


async def test_the_list_comes_page_by_page(world: World) -> None:
    wanted = {f"r{number}@example.org" for number in range(7)}
    for address in wanted:
        await suppress(world, address)
    await suppress(world, "x@other.example", reason="complained")
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3, "domain": "example.org"}
    while True:
        page = (await world.client.get(PATH, params=query, headers=world.bearer)).json()
        seen += [entry["address"] for entry in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert sorted(seen) == sorted(wanted)
    complained = (await world.client.get(PATH, params={"reason": "complained"}, headers=world.bearer)).json()
    assert [entry["address"] for entry in complained["data"]] == ["x@other.example"]
    lifted = (await world.client.get(PATH, params={"state": "lifted"}, headers=world.bearer)).json()
    assert lifted["data"] == []


async def test_each_customer_sees_and_changes_its_own_list_only(world: World) -> None:
    await suppress(world)
    await world.registrar.add_customer("20002", "Other", "test")
    other = await world.registrar.add_key("", "other", CredentialUse.OPERATOR, "test", tenant="20002")
    foreign = {"Authorization": f"Bearer {other.token}"}
    assert (await world.client.get(PATH, headers=foreign)).json()["data"] == []
    mine = (await world.client.get(PATH, headers=world.bearer)).json()["data"]
    cursor = (await world.client.get(PATH, params={"limit": 1, "state": "all"}, headers=world.as_operator)).json()
    assert len(mine) == len(cursor["data"]) == 1
    assert (await world.client.get(f"{PATH}/ada@example.org", headers=foreign)).json()["would_be_sent"]
    assert (await world.client.delete(f"{PATH}/ada@example.org", headers=foreign)).status_code == 404
    for method, path in (("GET", PATH), ("GET", f"{PATH}/ada@example.org"), ("DELETE", f"{PATH}/ada@example.org")):
        refused = await world.client.request(method, path, params={"customer": "10001"}, headers=foreign)
        assert refused.status_code == 403, (method, path)


async def test_what_is_no_address_or_no_customer_is_named(world: World) -> None:
    bad = await world.client.post(PATH, json={"address": "ada", "customer": "10001"}, headers=world.as_operator)
    assert bad.status_code == 422
    unnamed = await world.client.post(PATH, json={"address": ADDRESS}, headers=world.as_operator)
    assert unnamed.status_code == 422
    assert "customer" in unnamed.text
    nobody = await world.client.post(PATH, json={"address": ADDRESS, "customer": "9"}, headers=world.as_operator)
    assert nobody.status_code == 404
