"""What surrounds the mail: registry, health, pages, headers, and the door on a real socket."""

from __future__ import annotations

import asyncio
import html
import io
import re
import socket
import struct
from html.parser import HTMLParser
from pathlib import Path

import avro.io
import avro.schema
import httpx
import pytest

from depesche.api.rest.app import build_app
from depesche.api.rest.door import RestDoor, listening_socket
from depesche.api.rest.error_texts import ERROR_TEXTS
from depesche.api.rest.problems import all_errors
from depesche.api.rest.tools import Tools
from depesche.schemas.codec import schema_ids
from depesche.schemas.errors import ArchiveUnavailableError, SetupError, StoreUnavailableError
from depesche.schemas.settings import KafkaSettings, RestSettings, Settings
from depesche.schemas.topics import ALL

from .conftest import World, a_world
from .test_emails import MAIL


async def test_a_foreign_decoder_reads_a_job_with_the_registrys_schema(world: World) -> None:
    await world.client.post("/v1/emails", json=MAIL, headers=world.bearer)
    (value,) = [value for topic, _, value in world.log.records if topic == "mail.jobs" and value]
    magic, schema_id = struct.unpack(">BI", value[:5])
    answer = await world.client.get(f"/registry/schemas/ids/{schema_id}?fetchMaxId=false&subject=mail.jobs-value")
    assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
    schema = avro.schema.parse(answer.json()["schema"])
    record = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(value[5:])))
    assert (magic, record["tenant"], record["interface"]) == (0, "10001", "rest")


async def test_the_registry_answers_as_confluents_does(world: World) -> None:
    ask = world.client
    subjects = (await ask.get("/registry/subjects")).json()
    assert subjects == sorted(f"{topic.name}-value" for topic in ALL if topic.record)
    assert (await ask.get("/registry/subjects/mail.events-value/versions")).json() == [1]
    latest = (await ask.get("/registry/subjects/mail.events-value/versions/latest")).json()
    assert latest == (await ask.get("/registry/subjects/mail.events-value/versions/1")).json()
    assert (latest["subject"], latest["version"], latest["id"]) == ("mail.events-value", 1, schema_ids()["MailEvent"])
    bare = (await ask.get("/registry/subjects/mail.events-value/versions/1/schema")).json()
    assert bare["name"] == "MailEvent"
    users = (await ask.get(f"/registry/schemas/ids/{schema_ids()['MailEvent']}/versions")).json()
    assert [user["subject"] for user in users] == ["mail.events-value", "mail.outcomes-value"]
    assert (await ask.get("/registry/config")).json() == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
    assert (await ask.get("/registry/mode")).json() == {"mode": "READONLY"}
    assert (await ask.get("/registry/schemas/types")).json() == ["AVRO"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/subjects/none-value/versions", 40401),
        ("/subjects/none-value/versions/1", 40401),
        ("/subjects/mail.events-value/versions/7", 40402),
        ("/schemas/ids/999", 40403),
        ("/schemas/ids/x", 40403),
        ("/schemas/ids/999/versions", 40403),
        ("/schemas/ids/999/schema", 40403),
    ],
)
async def test_what_the_registry_does_not_have_has_confluents_code(world: World, path: str, code: int) -> None:
    answer = await world.client.get(f"/registry{path}")
    assert (answer.status_code, answer.json()["error_code"]) == (404, code)


async def test_nothing_can_be_registered(world: World) -> None:
    answer = await world.client.post("/registry/subjects/mail.events-value/versions", json={"schema": "{}"})
    assert (answer.status_code, answer.json()["error_code"]) == (422, 42205)


async def test_subjects_carry_the_topics_prefix(tmp_path: Path) -> None:
    world = await a_world(tmp_path, Settings(kafka=KafkaSettings.model_validate({"topic_prefix": "t-"})))
    async with world.client:
        assert "t-mail.jobs-value" in (await world.client.get("/registry/subjects")).json()


async def test_ready_says_which_part_is_not(world: World) -> None:
    async def well() -> None:
        return None

    async def store_down() -> None:
        raise StoreUnavailableError("http://inner.host refused")

    async def archive_full() -> None:
        raise ArchiveUnavailableError("/inner/path full")

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def ready(**probes: object) -> httpx.Response:
        tools = Tools(world.tools.settings, world.tools.hallway, world.tools.directory, probes=probes)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=build_app(tools))
        async with httpx.AsyncClient(transport=transport, base_url="http://depesche.test") as client:
            return await client.get("/readyz")

    as_usual = await ready()
    assert as_usual.status_code == 200
    assert {name: check["ok"] for name, check in as_usual.json()["checks"].items()} == {
        "log": True,
        "archive": True,
        "store": False,
    }
    fine = await ready(archive=well, store=well)
    assert (fine.status_code, fine.json()["ready"]) == (200, True)
    without_store = await ready(archive=well, store=store_down)
    assert (without_store.status_code, without_store.json()["checks"]["store"]["ok"]) == (200, False)
    without_archive = await ready(archive=archive_full)
    assert without_archive.status_code == 503
    assert "inner" not in without_store.text + without_archive.text
    hanging = await ready(archive=hangs)
    assert (hanging.status_code, hanging.json()["checks"]["archive"]["reason"]) == (503, "no answer in time")
    world.tools.settings.archive_directory.rmdir()
    assert (await ready()).json()["checks"]["archive"]["reason"] == "The archive's directory is not there"
    world.tools.hallway.ready = False
    assert (await ready()).json()["checks"]["log"]["ok"] is False


async def test_it_is_alive_even_when_nothing_else_is(world: World) -> None:
    world.tools.hallway.ready = False
    assert (await world.client.get("/livez")).json() == {"alive": True}


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("192.0.2.7", {}, 404),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, 404),
        ("127.0.0.1", {"X-Real-IP": "192.0.2.7"}, 404),
    ],
)
async def test_metrics_are_for_this_machine(world: World, peer: str, headers: dict[str, str], status: int) -> None:
    transport = httpx.ASGITransport(app=world.app, client=(peer, 4000))
    async with httpx.AsyncClient(transport=transport, base_url="http://depesche.test") as client:
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ("python_info" in answer.text) is (status == 200)


class Assets(HTMLParser):
    """Collects what a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "action")]


async def test_the_pages_lead_only_to_places_that_are_there_and_load_nothing_from_elsewhere(world: World) -> None:
    start = await world.client.get("/")
    assert (start.status_code, start.headers["location"]) == (307, "/help")
    seen, waiting = set(), ["/help"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = await world.client.get(path)
        assert answer.status_code == 200, path
        if "text/html" in answer.headers["content-type"]:
            page = Assets()
            page.feed(answer.text)
            assert "script" not in page.tags
            assert all(target.startswith(("/", "#")) for target in page.targets), path
            waiting += [target for target in page.targets if target.startswith("/")]
    assert {"/errors/forbidden_sender", "/openapi.json", "/style.css", "/favicon.svg", "/readyz"} <= seen


async def test_every_error_has_its_page_in_both_languages(world: World) -> None:
    for kind in all_errors():
        answer = await world.client.get(f"/errors/{kind.code}")
        english, german = ERROR_TEXTS[kind.code]
        assert answer.status_code == 200
        assert 'lang="de"' in answer.text
        assert {english, german} <= set(re.findall(r"<p>(.*?)</p>", html.unescape(answer.text)))
        assert german != english
    assert set(ERROR_TEXTS) == {kind.code for kind in all_errors()}


async def test_a_page_does_not_show_what_a_stranger_writes(world: World) -> None:
    answer = await world.client.get("/errors/%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status_code == 404
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/emails", 405, "method_not_allowed"),
        ("GET", "/rest/v2/jobs", 405, "method_not_allowed"),
        ("PUT", "/v1/emails", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_document(
    world: World, method: str, path: str, status: int, code: str
) -> None:
    answer = await world.client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) is (status == 405)


async def test_every_answer_protects_whoever_reads_it(world: World) -> None:
    for path in ("/help", "/livez", "/nothing", "/v1/emails"):
        headers = (await world.client.get(path, headers={"Origin": "https://evil.example"})).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
        assert not any(name.startswith("access-control") for name in headers)


def a_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_door_serves_until_it_is_told_to_stop_and_ends_what_is_under_way(tmp_path: Path) -> None:
    port = a_port()
    world = await a_world(tmp_path, Settings(rest=RestSettings(port=port)))
    ready = asyncio.Event()
    serving = asyncio.create_task(RestDoor(world.tools).run(ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.post("/v1/emails", json=MAIL, headers=world.bearer)
        assert answer.status_code == 202
        assert "server" not in answer.headers
        entered, go_on = asyncio.Event(), asyncio.Event()
        put = world.archive.put

        async def slow_put(tenant: str, contents: list[bytes]) -> object:
            entered.set()
            await go_on.wait()
            return await put(tenant, contents)

        world.archive.put = slow_put  # type: ignore[assignment,method-assign]
        under_way = asyncio.create_task(client.post("/v1/emails", json=MAIL, headers=world.bearer))
        await asyncio.wait_for(entered.wait(), 10)
        serving.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert (await under_way).status_code == 202
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/livez")
    assert len(world.jobs()) == 2


def test_a_port_that_is_taken_is_said_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = Settings(rest=RestSettings(port=other.getsockname()[1]))
        with pytest.raises(SetupError) as fault:
            listening_socket(settings)
    assert "rest.port" in fault.value.fix


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_the_door_is_not_open_to_everybody_by_mistake(host: str) -> None:
    with pytest.raises(SetupError):
        listening_socket(Settings(rest=RestSettings(host=host)))


def value_of(text: str, sample: str) -> float:
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample)), 0.0)


async def test_what_the_door_did_is_counted(world: World) -> None:
    samples = (
        'mail_messages_accepted_total{interface="rest"}',
        'mail_submissions_refused_total{code="invalid_value",interface="rest"}',
        'mail_submissions_refused_total{code="missing_value",interface="rest"}',
        'mail_accept_seconds_count{interface="rest"}',
    )
    before = (await world.client.get("/metrics")).text
    await world.client.post("/v1/emails", json=MAIL, headers=world.bearer)
    await world.client.post("/v1/emails", json={}, headers=world.bearer)
    await world.client.post("/rest/v2/jobs", json={}, auth=world.login)
    after = (await world.client.get("/metrics")).text
    assert [value_of(after, sample) - value_of(before, sample) for sample in samples] == [1, 1, 1, 1]
