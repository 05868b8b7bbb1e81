"""The directory on a real broker: read-your-writes, first registration wins, and what a credential opens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.registrar import Registrar, new_account
from depesche.analytics.log import topics
from depesche.analytics.log.client import producer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.errors import ConflictError, InvalidRequestError, NotFoundError, UnauthorizedError
from depesche.schemas.records import CredentialUse, DirectoryKind, Status
from depesche.schemas.settings import KafkaSettings, Settings


class Office:
    """A directory and its registrar, as one process has them."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self.settings = settings
        self.keyring = keyring
        self.directory = Directory(settings, keyring)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Office"]:
        sender = producer(self.settings, "office")
        await sender.start()
        await self.directory.start()
        self.registrar = Registrar(self.settings, self.directory, sender, self.keyring)
        try:
            yield self
        finally:
            await self.directory.stop()
            await sender.stop()


@pytest.fixture(scope="module")
async def settings(kafka_broker: KafkaBroker) -> Settings:
    made = Settings(kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix="directory."))
    await topics.create_missing(made)
    return made


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.open(tmp_path_factory.mktemp("keys"), None)


@pytest.fixture
async def office(settings: Settings, keyring: Keyring) -> AsyncIterator[Office]:
    async with Office(settings, keyring).open() as opened:
        yield opened


async def test_what_was_written_can_be_read_at_once_and_by_a_new_process(office: Office) -> None:
    await office.registrar.add_customer("10001", "Shop", "test")
    account = await office.registrar.add_account("10001", new_account("main"), "test")
    await office.registrar.add_domain("10001", "Shop-One.test", "test")
    assert office.directory.sender_domain("shop-one.test", "10001", account) is not None
    async with Office(office.settings, office.keyring).open() as other:
        assert other.directory.sender_domain("shop-one.test", "10001", account) is not None
        assert other.directory.recipient_secret("10001") == office.directory.recipient_secret("10001")
        keys = other.directory.signing_keys("shop-one.test")
        assert [key.selector for key in keys] == ["d1"]
        assert "private" not in repr(keys)


async def test_two_customers_that_register_one_domain_at_once_have_one_winner(
    settings: Settings, keyring: Keyring
) -> None:
    async with Office(settings, keyring).open() as a, Office(settings, keyring).open() as b:
        await a.registrar.add_customer("20001", "A", "test")
        await b.registrar.add_customer("20002", "B", "test")
        await b.directory.wait_for(0)
        async with asyncio.timeout(10):
            while b.directory.customer("20001") is None or a.directory.customer("20002") is None:
                await asyncio.sleep(0.05)
        results = await asyncio.gather(
            a.registrar.add_domain("20001", "contested.test", "test"),
            b.registrar.add_domain("20002", "contested.test", "test"),
            return_exceptions=True,
        )
        refused = [r for r in results if isinstance(r, ConflictError)]
        assert len(refused) == 1, results
        winner = "20001" if results[1] is refused[0] else "20002"
        async with Office(settings, keyring).open() as c:
            owned = c.directory.domain("contested.test")
            assert owned is not None
            assert owned.tenant == winner


async def test_a_tenant_cannot_send_from_a_domain_of_another(office: Office) -> None:
    for tenant in ("30001", "30002"):
        await office.registrar.add_customer(tenant, tenant, "test")
    mine = await office.registrar.add_account("30001", new_account("mine"), "test")
    theirs = await office.registrar.add_account("30002", new_account("theirs"), "test")
    await office.registrar.add_domain("30001", "mine.test", "test")
    assert office.directory.sender_domain("mine.test", "30001", mine)
    assert not office.directory.sender_domain("mine.test", "30002", theirs)
    assert not office.directory.sender_domain("sub.mine.test", "30001", mine)
    with pytest.raises(ConflictError):
        await office.registrar.add_domain("30002", "mine.test", "test")


async def test_a_key_opens_its_account_until_it_is_removed(office: Office) -> None:
    await office.registrar.add_customer("40001", "C", "test")
    account = await office.registrar.add_account("40001", new_account("c"), "test")
    api = await office.registrar.add_key(account, "api", CredentialUse.API_KEY, "test")
    login = await office.registrar.add_key(account, "smtp", CredentialUse.LOGIN, "test")
    assert office.directory.bearer(api.token).account == account
    assert office.directory.login(login.key_id, login.secret).tenant == "40001"
    for token in ("", "x", api.token[:-1] + "?", api.token.replace(api.key_id, "aaaaaaaaaa"), login.token):
        with pytest.raises(UnauthorizedError):
            office.directory.bearer(token)
    with pytest.raises(UnauthorizedError):
        office.directory.login(login.key_id, "wrong")
    await office.registrar.remove(DirectoryKind.KEY, api.key_id, "40001", "test")
    with pytest.raises(UnauthorizedError):
        office.directory.bearer(api.token)


async def test_a_locked_account_is_locked_for_all_its_keys(office: Office) -> None:
    from dataclasses import replace

    await office.registrar.add_customer("50001", "D", "test")
    account = await office.registrar.add_account(
        "50001", new_account("d", source_ips=("127.0.0.9",), login_by_ip=True), "test"
    )
    key = await office.registrar.add_key(account, "api", CredentialUse.API_KEY, "test")
    assert office.directory.by_source_ip("127.0.0.9")
    held = office.directory.book.account(account)
    assert held
    await office.registrar.change("50001", account, replace(held[1], status=Status.LOCKED), "test")
    with pytest.raises(UnauthorizedError):
        office.directory.bearer(key.token)
    assert office.directory.by_source_ip("127.0.0.9") is None


async def test_unknown_things_are_refused_by_name(office: Office) -> None:
    with pytest.raises(NotFoundError):
        await office.registrar.add_account("99999", new_account("x"), "test")
    with pytest.raises(NotFoundError):
        await office.registrar.remove(DirectoryKind.DOMAIN, "nowhere.test", "10001", "test")
    await office.registrar.add_customer("60001", "E", "test")
    with pytest.raises(InvalidRequestError):
        await office.registrar.add_domain("60001", "no dot", "test")


async def test_dkim_rotation_adds_a_selector_and_keeps_the_old_one(office: Office) -> None:
    await office.registrar.add_customer("70001", "F", "test")
    await office.registrar.add_domain("70001", "rotate.test", "test")
    await office.registrar.rotate_dkim("rotate.test", "70001", "test")
    assert [key.selector for key in office.directory.signing_keys("rotate.test")] == ["d1", "d2"]
