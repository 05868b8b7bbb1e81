"""The audit on a real log, archive and engine: green when all is well, red for every single thing that is not."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from aiokafka import TopicPartition

from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.archive.writer import ArchiveWriter
from depesche.analytics.audit import audit
from depesche.analytics.audit.audit import PREPARE_GROUP, run_audit
from depesche.analytics.audit.report import AuditReport
from depesche.analytics.backlog.inspection import COURIERS, KEEPER
from depesche.analytics.log.client import full_name, group_consumer
from depesche.analytics.store.offsets import stored_offsets
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas import topics
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id
from depesche.schemas.records import AttemptMark, AttemptMarks, AttemptPhase, DeadLetter, ReturnedMail
from depesche.schemas.return_key import KEPT_AS
from depesche.schemas.service import now_ms

from .conftest import EngineProcess
from .story import Mail
from .test_sink import World, world_of

HOUR = 3_600_000
_customers = itertools.count()


class Books:
    """A world with an archive, and helpers to tell mails and audit them."""

    def __init__(self, world: World, writer: ArchiveWriter) -> None:
        self.world = world
        self.writer = writer
        self.reader = ArchiveReader(world.settings.archive_directory, world.keyring)

    async def mails(self, count: int, tenant: str = "4711") -> list[Mail]:
        """Mails of the last hours with content, each with its own end."""
        ends = ("delivered", "bounced", "deferred", "", "dropped")
        made = []
        for number in range(count):
            content = await self.writer.put(tenant, [b"a mail", f"number {number}".encode()])
            mail = Mail(
                self.world.keyring,
                recipient=f"user{number}@example.org",
                tenant=tenant,
                accepted_at=now_ms() - (number % 4 + 1) * HOUR,
                content=tuple(content),
            )
            end = ends[number % 5]
            if end == "dropped":
                mail.accepted().event("dropped", 20)
            else:
                mail.prepared()
            if end in ("delivered", "bounced"):
                mail.answered("deferred", 1).answered(end, 2)
            elif end == "deferred":
                mail.answered("deferred", 1)
            made.append(mail)
        return made

    async def tell(self, mails: list[Mail], *, prepared: bool = True) -> None:
        """Write all records of these mails, and say that their jobs have been prepared."""
        await self.world.log.mails(mails)
        for mail in mails:
            for attempt in {event.attempt for event in mail.told if event.type.value == "deferred"}:
                unit = mail.unit(attempt + 1)
                partition = topics.route_partition(unit.route, self.world.settings.kafka.partitions)
                await self.world.log.send(topics.RETRY["1m"].name, encode(unit), partition)
        if prepared:
            await self.prepare()

    async def prepare(self) -> None:
        """Say that all jobs have been prepared."""
        await self.passed(PREPARE_GROUP, topics.JOBS.name)

    async def passed(self, group: str, topic: str) -> None:
        """Commit the whole of a topic for the stage that reads it."""
        kafka = self.world.settings.kafka
        consumer = group_consumer(self.world.settings, group, "tests")
        places = [TopicPartition(full_name(kafka, topic), number) for number in range(kafka.partitions)]
        await consumer.start()
        consumer.assign(places)
        await consumer.commit(await consumer.end_offsets(places))
        await consumer.stop()

    async def stored(self) -> None:
        """Have the sink write all there is, and stop."""
        async with self.world.sink():
            kafka = self.world.settings.kafka
            probe = group_consumer(self.world.settings, "probe", "tests")
            names = (topics.EVENTS.name, topics.OUTCOMES.name, topics.DEAD.name)
            await probe.start()
            ends = await probe.end_offsets(
                [
                    TopicPartition(full_name(kafka, name), number)
                    for name in names
                    for number in range(1 if name == topics.DEAD.name else kafka.partitions)
                ]
            )
            await probe.stop()
            wanted = {
                (place.topic.removeprefix(kafka.topic_prefix), place.partition): end for place, end in ends.items()
            }
            wanted = {place: end for place, end in wanted.items() if end}

            async def look() -> object:
                return await stored_offsets(self.world.client)

            await self.world.becomes(wanted, look)

    async def audit(self, **more: object) -> AuditReport:
        return await run_audit(
            self.world.settings,
            self.world.keyring,
            self.reader,
            self.world.client,
            wait_seconds=1.0,
            **more,  # type: ignore[arg-type]
        )


@asynccontextmanager
async def books_of(broker: KafkaBroker, engine: EngineProcess, home: Path) -> AsyncIterator[Books]:
    async with world_of(broker, engine, home) as world:
        writer = ArchiveWriter(world.settings.archive_directory, world.keyring, "tests", world.settings.archive)
        await writer.start()
        try:
            yield Books(world, writer)
        finally:
            await writer.close()


@pytest_asyncio.fixture
async def books(kafka_broker: KafkaBroker, engine: EngineProcess, tmp_path: Path) -> AsyncIterator[Books]:
    async with books_of(kafka_broker, engine, tmp_path) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def spoilt(
    kafka_broker: KafkaBroker, engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Books]:
    """Books that get worse from test to test; each sabotage has a customer of its own."""
    async with books_of(kafka_broker, engine, tmp_path_factory.mktemp("spoilt")) as made:
        yield made


def kinds(report: AuditReport) -> dict[str, int]:
    return {found.kind: found.count for found in report.differences}


async def test_when_all_is_well_it_balances_to_the_unit(books: Books) -> None:
    mails = [*await books.mails(25), *await books.mails(10, "4712")]
    chance = random.Random(7)
    await books.tell(mails)
    # Whatever is told twice, in whatever order, changes nothing.
    again = [event for mail in chance.sample(mails, 15) for event in mail.told]
    chance.shuffle(again)
    await books.world.log.events(again)
    await books.stored()
    said: list[tuple[str, int, int]] = []
    report = await books.audit(progress=lambda what, done, whole: said.append((what, done, whole)))
    assert report.differences == ()
    assert report.balanced
    whole = report.total
    assert (whole.accepted, whole.in_flight, report.jobs) == (35, 14, 35)
    assert whole.finals == {"delivered": 7, "bounced": 7, "dropped": 7}
    assert {tenant for tenant, _ in report.totals} == {"4711", "4712"}
    assert sum(total.accepted for (tenant, _), total in report.totals.items() if tenant == "4712") == 10
    assert all(total.balanced for total in report.totals.values())
    assert (report.unreferenced, report.dead_letters, report.expired, report.unsettled) == (0, 0, 0, False)
    assert said[-1][1] == said[-1][2] == sum(report.records.values())
    told = orjson.loads(orjson.dumps(report.to_json()))
    assert told["balanced"] is True
    assert told["accepted"] == 35
    assert told["totals"][0]["hour"].endswith(":00:00.000Z")


async def test_a_late_bounce_is_counted_apart_and_is_no_second_end(books: Books) -> None:
    mails = await books.mails(10)
    for mail in mails:
        if mail.told[-1].type.value == "delivered":
            mail.came_back()
    mails[1].came_back()
    await books.tell(mails)
    # The same is reported again, from another place.
    again = replace(mails[0].told[-1], occurred_at=now_ms())
    await books.world.log.events([again])
    await books.stored()
    report = await books.audit()
    assert report.differences == ()
    assert (report.total.finals, report.total.in_flight) == ({"delivered": 2, "bounced": 2, "dropped": 2}, 4)
    assert report.total.late_bounces == report.to_json()["late_bounces"] == 3
    stands = await books.world.client.query("SELECT status, final, count() FROM states FINAL GROUP BY ALL ORDER BY 1")
    assert ("bounced", True, 4) in stands.rows
    assert not any(status == "delivered" for status, _, _ in stands.rows)


async def test_a_job_with_many_recipients_is_many_units(books: Books) -> None:
    first = Mail(books.world.keyring).prepared().answered("delivered")
    units = [first]
    for number in range(1, 6):
        mail = Mail(books.world.keyring, recipient=f"r{number}@example.org", job_id=first.job_id, number=number)
        units.append(mail.prepared().answered("delivered"))
    await books.tell(units)
    await books.stored()
    report = await books.audit()
    assert (report.balanced, report.jobs, report.total.accepted) == (True, 1, 6)


async def test_read_in_parts_it_says_the_same(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    await books.tell(await books.mails(12))
    await books.stored()
    whole = await books.audit()
    monkeypatch.setattr(audit, "UNITS_AT_ONCE", 5)
    parts = await books.audit()
    assert whole.balanced
    changed = {"started_at", "finished_at"}
    assert {k: v for k, v in parts.to_json().items() if k not in changed} == {
        k: v for k, v in whole.to_json().items() if k not in changed
    }


async def test_while_mail_goes_on_it_balances(books: Books) -> None:
    await books.tell(await books.mails(20))
    await books.stored()
    stop = asyncio.Event()

    async def go_on() -> None:
        while not stop.is_set():
            mails = await books.mails(5)
            # No deferred one: its event says that it happened hours ago, so there is no grace for the ladder's record.
            await books.tell([mail for mail in mails if mail.told[-1].type.value != "deferred"], prepared=False)
            await asyncio.sleep(0.01)

    async with books.world.sink():
        traffic = asyncio.create_task(go_on())
        for _ in range(5):
            report = await run_audit(
                books.world.settings, books.world.keyring, books.reader, books.world.client, wait_seconds=30
            )
            assert report.differences == ()
        stop.set()
        await traffic
    assert report.total.accepted > 20


async def test_content_that_belongs_to_no_job_is_told_and_harmless(books: Books) -> None:
    await books.tell(await books.mails(3))
    await books.writer.put("4711", [b"the door died after this"])
    await books.stored()
    report = await books.audit()
    assert (report.balanced, report.unreferenced) == (True, 1)


async def test_a_job_that_waits_to_be_prepared_owes_nothing_yet(books: Books) -> None:
    waiting = Mail(books.world.keyring)
    await books.tell([waiting], prepared=False)
    assert (await books.audit()).balanced


async def test_a_unit_that_all_its_readers_have_passed_is_missed_at_once(books: Books) -> None:
    mails = await books.mails(10)
    await books.tell(mails)
    await books.stored()
    # Those that have ended have nothing more to be read.
    assert (await books.audit()).balanced
    # The couriers have passed all of mail.outbound, also what nobody has answered.
    await books.passed(COURIERS, topics.OUTBOUND.name)
    [found] = (await books.audit()).differences
    assert (found.kind, found.count) == ("stands_nowhere", 2)
    assert set(found.examples) == {f"{mail.unit_id}/1" for mail in mails if mail.told[-1].type.value == "signed"}
    # And the keeper all of the ladder.
    await books.passed(KEEPER, topics.RETRY["1m"].name)
    assert kinds(await books.audit()) == {"stands_nowhere": 4}
    # One is in a courier's hands again, of another it is known that it was buried.
    again, buried = (mail for mail in mails if mail.told[-1].type.value == "deferred")
    partition = topics.route_partition(again.unit(2).route, books.world.settings.kafka.partitions)
    await books.world.log.send(topics.OUTBOUND.name, encode(again.unit(2)), partition)
    place = {"stage": "deliver", "topic": "mail.outbound", "partition": 0, "offset": 1}
    letter = DeadLetter(**place, occurred_at=now_ms(), cause="x", explanation="", unit_id=buried.unit_id)
    await books.world.log.send(topics.DEAD.name, encode(letter), 0)
    await books.stored()
    [found] = (await books.audit()).differences
    assert (found.kind, set(found.examples) & {f"{mail.unit_id}/2" for mail in (again, buried)}) == (
        "stands_nowhere",
        set(),
    )
    assert found.count == 2


# Sabotage: each of these must turn the audit red, and for its own reason.


async def _without_acceptance(books: Books, mails: list[Mail]) -> None:
    mails[0].told = [event for event in mails[0].told if event.type.value != "accepted"]
    await books.tell(mails)
    await books.stored()


async def _passed_over(books: Books, mails: list[Mail]) -> None:
    mails[3].told = []
    mails[3].marks = []
    await books.tell(mails)
    await books.stored()


async def _never_submitted(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    stranger = Mail(books.world.keyring, recipient="x@example.org").accepted()
    stranger.event("dropped", 20)
    await books.world.log.events(stranger.told)
    await books.stored()


async def _second_final(books: Books, mails: list[Mail]) -> None:
    mails[0].answered("bounced", 3)
    await books.tell(mails)
    await books.stored()


async def _same_final_twice(books: Books, mails: list[Mail]) -> None:
    final = mails[0].told[-1]
    other = replace(final, event_id=event_id(final.unit_id, "delivered", 2, "somewhere else"))
    await books.tell(mails)
    await books.world.log.events([other])
    await books.stored()


async def _swapped_in_the_log(books: Books, mails: list[Mail]) -> None:
    mails[0].told[-1] = replace(mails[0].told[-1], tenant="4712")
    await books.tell(mails)
    await books.stored()


async def _no_attempt(books: Books, mails: list[Mail]) -> None:
    mails[0].marks = [mark for mark in mails[0].marks if mark.attempt != 2]
    await books.tell(mails)
    await books.stored()


async def _not_handed_on(books: Books, mails: list[Mail]) -> None:
    await books.world.log.mails(mails)
    await books.prepare()
    await books.stored()


async def _back_before_it_left(books: Books, mails: list[Mail]) -> None:
    mails[3].came_back()
    await books.tell(mails)
    await books.stored()


async def _late_bounce_lost_in_the_store(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    await books.world.log.events(mails[0].came_back().told[-1:])
    await books.stored()
    await books.world.client.command(f"DELETE FROM states WHERE unit_id = '{mails[0].unit_id}' AND status = 'bounced'")


async def _late_bounce_as_a_second_end(books: Books, mails: list[Mail]) -> None:
    mails[0].came_back()
    mails[0].told[-1] = replace(mails[0].told[-1], sequence=150)
    await books.tell(mails)
    await books.stored()


async def _returned_mail_lost(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    [there] = await books.writer.put(KEPT_AS, [b"a bounce"])
    gone = replace(there, segment=there.segment.replace("tests", "nobody"))
    for number, ref in enumerate((there, gone)):
        mail = ReturnedMail(
            returned_id=f"r{number}",
            received_at=now_ms(),
            size=8,
            sha256=b"",
            content=(ref,),
            key_id=ref.key_id,
            sealed_envelope=b"",
        )
        await books.world.log.send(topics.RETURNS.name, encode(mail), 0)


async def _overdue(books: Books, mails: list[Mail]) -> None:
    # Longer than its two days and the hour of grace.
    late = Mail(books.world.keyring, recipient="late@example.org", accepted_at=now_ms() - 60 * HOUR).prepared()
    await books.tell([*mails, late])
    await books.stored()


async def _no_content(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    segment = mails[0].content[1].segment
    path = books.world.settings.archive_directory / f"{segment}.seg"
    with path.open("r+b") as file:
        file.seek(mails[-1].content[1].offset)
        file.write(b"\0" * mails[-1].content[1].length)


async def _unreadable(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.world.log.send(topics.JOBS.name, b"not a job", 0)
    await books.stored()


async def _lost_event(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    await books.world.client.command(f"DELETE FROM events WHERE event_id = '{mails[2].told[1].event_id}'")


async def _lost_unit(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    await books.world.client.command(f"DELETE FROM units WHERE unit_id = '{mails[2].unit_id}'")


async def _lost_state(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    await books.world.client.command(f"DELETE FROM states WHERE unit_id = '{mails[2].unit_id}'")


async def _swapped_in_the_store(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    columns = "tenant, accepted_at, unit_id, event_id, type, source_topic, source_partition, source_offset"
    await books.world.client.command(
        f"INSERT INTO events ({columns}) SELECT '4712', * EXCEPT tenant FROM "
        f"(SELECT {columns} FROM events WHERE event_id = '{mails[2].told[1].event_id}')"
    )
    id_, tenant = mails[2].told[1].event_id, mails[2].tenant
    await books.world.client.command(f"DELETE FROM events WHERE event_id = '{id_}' AND tenant = '{tenant}'")


async def _another_in_its_place(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    columns = "tenant, accepted_at, unit_id, size"
    await books.world.client.command(
        f"INSERT INTO units ({columns}) SELECT tenant, accepted_at, 'another', size FROM units "
        f"WHERE unit_id = '{mails[2].unit_id}'"
    )
    await books.world.client.command(f"DELETE FROM units WHERE unit_id = '{mails[2].unit_id}'")


async def _behind(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    await books.stored()
    await books.world.log.events(mails[0].told[:1])


async def _lost_letter(books: Books, mails: list[Mail]) -> None:
    await books.tell(mails)
    letter = DeadLetter(
        stage="deliver", topic="mail.outbound", partition=0, offset=1, occurred_at=now_ms(), cause="x", explanation=""
    )
    await books.world.log.send(topics.DEAD.name, encode(letter), 0)
    await books.stored()
    await books.world.client.command("TRUNCATE TABLE dead_letters")


@pytest.mark.parametrize(
    ("sabotage", "found"),
    [
        (_without_acceptance, {"event_without_acceptance": 1}),
        (_passed_over, {"job_without_acceptance": 1}),
        (_never_submitted, {"acceptance_without_job": 1}),
        (_second_final, {"second_final": 1}),
        (_same_final_twice, {"second_final": 1}),
        (_swapped_in_the_log, {"mixed_customers": 1, "store_states": 3}),
        (_no_attempt, {"delivered_without_attempt": 1}),
        (_back_before_it_left, {"returned_without_attempt": 1}),
        (_late_bounce_lost_in_the_store, {"store_states": 2}),
        (_late_bounce_as_a_second_end, {"second_final": 1}),
        (_returned_mail_lost, {"content_missing": 1}),
        (_not_handed_on, {"not_handed_on": 2}),
        (_overdue, {"overdue": 1}),
        (_unreadable, {"unreadable_not_buried": 1}),
        (_lost_event, {"store_events": 1}),
        (_lost_unit, {"store_units": 1}),
        (_lost_state, {"store_states": 1}),
        (_swapped_in_the_store, {"store_events": 2}),
        (_another_in_its_place, {"store_units": 1}),
        (_behind, {"store_behind": 1}),
        (_lost_letter, {"store_dead_letters": 1}),
        # The last: nothing behind a damaged entry can be found.
        (_no_content, {"content_missing": 2}),
    ],
)
async def test_sabotage_is_found(
    spoilt: Books, sabotage: Callable[[Books, list[Mail]], Awaitable[None]], found: dict[str, int]
) -> None:
    await spoilt.stored()
    later: Callable[[], int] = lambda: now_ms() + 120_000  # noqa: E731  (the grace for burials is over)
    before = Counter(kinds(await spoilt.audit(clock=later)))
    mails = await spoilt.mails(10, f"sabotage{next(_customers)}")
    await sabotage(spoilt, mails)
    report = await spoilt.audit(clock=later)
    assert not report.balanced
    assert Counter(kinds(report)) - before == found
    assert all(difference.examples for difference in report.differences)


async def test_ambiguous_attempts_are_counted_and_listed(books: Books) -> None:
    mails = await books.mails(10)
    said = AttemptMark(
        unit_id=mails[0].unit_id, tenant="4711", attempt=1, phase=AttemptPhase.AMBIGUOUS, outcome="deferred"
    )
    mails[0].marks.append(said)
    mails[1].marks = [mark for mark in mails[1].marks if mark.phase is not AttemptPhase.FINISHED or mark.attempt != 1]
    # Its second attempt is under way: started and as far as the dot, and no end yet.
    for phase in (AttemptPhase.STARTED, AttemptPhase.COMMITTING):
        mails[2].marks.append(AttemptMark(unit_id=mails[2].unit_id, tenant="4711", attempt=2, phase=phase))
    await books.tell(mails)
    await books.stored()
    report = await books.audit()
    assert report.balanced
    assert (report.ambiguous_count, report.open_attempts) == (2, 1)
    assert set(report.ambiguous) == {f"{mails[0].unit_id}/1", f"{mails[1].unit_id}/1"}


def _arrival(mail: Mail, **more: object) -> dict[str, object]:
    return {
        "recipients": [mail.recipient.title()],
        "message_id": f"<{mail.message_id}>",
        "kept": True,
        "time": mail.accepted_at / 1000,
        "reply": "250 ok",
        **more,
    }


CHANGES: list[tuple[Callable[[list[dict[str, object]], list[Mail]], object], dict[str, int]]] = [
    (lambda log, mails: None, {}),
    (lambda log, mails: log.pop(0), {"far_side_missing": 1}),
    (lambda log, mails: log.append(log[0]), {"far_side_extra_copies": 1}),
    (lambda log, mails: log.append({**log[0], "kept": False}), {}),
    (lambda log, mails: log.append({**log[0], "message_id": "<x@y>"}), {"far_side_unknown": 1}),
    (lambda log, mails: log.append({**log[0], "recipients": ["other@x.example"]}), {"far_side_unknown": 1}),
    (lambda log, mails: log.append(_arrival(mails[4])), {"far_side_unknown": 1}),
    (lambda log, mails: log.append(_arrival(mails[5])), {}),
    (lambda log, mails: log.append({**log[0], "message_id": "<x@y>", "time": now_ms() / 1000 + 60}), {}),
]


async def test_the_far_side_s_truth_is_compared(books: Books, tmp_path: Path) -> None:
    mails = await books.mails(10)
    # One more copy of this one is explained: its first attempt was ambiguous.
    mails[5].marks.append(AttemptMark(unit_id=mails[5].unit_id, tenant="4711", attempt=1, phase=AttemptPhase.AMBIGUOUS))
    # The sandbox's Postfix keeps no ground truth.
    elsewhere = Mail(books.world.keyring, recipient="ada@inbox.test").prepared()
    elsewhere.answered("delivered", remote_ip=books.world.settings.sandbox.postfix_host)
    await books.tell([*mails, elsewhere])
    await books.stored()
    path = tmp_path / "truth.jsonl"
    for change, found in CHANGES:
        log = [_arrival(mail) for mail in mails if mail.told[-1].type.value == "delivered"]
        change(log, mails)
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in log) + b'{"half a line')
        assert kinds(await books.audit(sink_log=path)) == found


async def test_a_missing_ground_truth_is_not_taken_for_an_empty_one(books: Books, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await books.audit(sink_log=tmp_path / "nothing.jsonl")


async def test_marks_with_nonsense_do_not_stop_it(books: Books) -> None:
    mails = await books.mails(5)
    await books.tell(mails)
    wild = AttemptMark(unit_id=mails[0].unit_id, tenant="4711", attempt=10**6, phase=AttemptPhase.STARTED)
    marks = AttemptMarks(worker="x", occurred_at=now_ms(), marks=(wild,))
    await books.world.log.send(topics.ATTEMPTS.name, encode(marks), 0)
    await books.stored()
    assert (await books.audit()).balanced
