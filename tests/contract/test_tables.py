"""The tables: the steps build exactly the declared shapes, and a store that is not ours to change is left alone."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from importlib import resources

import pytest
import pytest_asyncio

from depesche.analytics.store import migrate
from depesche.analytics.store.client import StoreClient, StoreRefusedError
from depesche.schemas.errors import SetupError, StoreUnavailableError
from depesche.schemas.settings import ClickHouseSettings, Settings

from .conftest import EngineProcess

_names = itertools.count()


@pytest.fixture
def settings(engine: EngineProcess) -> Settings:
    return Settings.model_validate(
        {
            "clickhouse": {
                "url": engine.url,
                "user": engine.user,
                "password": engine.password,
                "database": f"tables{next(_names)}",
            }
        }
    )


@pytest_asyncio.fixture
async def client(settings: Settings) -> AsyncIterator[StoreClient]:
    client = StoreClient(settings, "tests")
    await client.command(f"CREATE DATABASE {settings.clickhouse.database}", anywhere=True)
    yield client
    await client.command(f"DROP DATABASE IF EXISTS {settings.clickhouse.database}", anywhere=True)
    await client.close()


async def test_all_steps_together_give_the_declared_shape_of_each_table(
    client: StoreClient, settings: Settings
) -> None:
    await migrate.bootstrap(client, settings)
    declared = {
        file.name.removesuffix(".sql"): file.read_text("utf-8")
        for file in resources.files("depesche.analytics.store.tables").iterdir()
        if file.name.endswith(".sql")
    }
    assert await migrate.shapes(client) == declared


async def test_a_second_start_runs_no_step_and_two_at_once_do_no_harm(client: StoreClient, settings: Settings) -> None:
    await asyncio.gather(migrate.bootstrap(client, settings), migrate.bootstrap(client, settings))
    assert await migrate.bootstrap(client, settings) == []
    assert [found.step.number for found in await migrate.status(client)] == [1, 2, 3, 4, 5]
    assert all(found.applied_at for found in await migrate.status(client))


async def test_a_step_that_was_edited_after_it_ran_is_refused(client: StoreClient, settings: Settings) -> None:
    await migrate.bootstrap(client, settings)
    await client.command(
        "ALTER TABLE migrations UPDATE checksum = 'other' WHERE number = 2 SETTINGS mutations_sync = 2"
    )
    with pytest.raises(SetupError, match="0002 units was changed"):
        await migrate.bootstrap(client, settings)


async def test_tables_of_a_newer_version_are_refused(client: StoreClient, settings: Settings) -> None:
    await migrate.bootstrap(client, settings)
    await client.command("INSERT INTO migrations SELECT 99, 'later', 'x', now64()")
    with pytest.raises(SetupError, match="newer"):
        await migrate.apply(client)


async def test_a_step_that_is_missing_between_others_is_refused(client: StoreClient, settings: Settings) -> None:
    await migrate.bootstrap(client, settings)
    await client.command("DELETE FROM migrations WHERE number = 3")
    with pytest.raises(SetupError, match="left out"):
        await migrate.plan(client)


async def test_the_cluster_s_variants_are_sql_that_the_engine_reads(client: StoreClient) -> None:
    cluster = ClickHouseSettings.model_validate({"cluster": "mail"})
    statements = [statement for step in migrate.steps() for statement in step.statements(cluster)]
    assert statements
    for statement in statements:
        assert "ON CLUSTER mail" in statement
        assert "ENGINE = Replicated" in statement
        assert "{engine" not in statement
        read = await client.query("SELECT formatQuery({sql:String})", {"sql": statement})
        assert "Replicated" in read.rows[0][0]


async def test_an_error_of_clickhouse_has_its_number_and_is_told_apart_from_silence(
    client: StoreClient, settings: Settings, free_port: Callable[[], int]
) -> None:
    with pytest.raises(StoreRefusedError) as refused:
        await client.query("SELECT * FROM system.no_such_table")
    assert refused.value.number == 60
    assert not refused.value.about_the_data
    nobody = settings.model_copy(
        update={"clickhouse": settings.clickhouse.model_copy(update={"url": f"http://127.0.0.1:{free_port()}"})}
    )
    silent = StoreClient(nobody, "tests")
    with pytest.raises(StoreUnavailableError) as away:
        await silent.query("SELECT 1")
    assert not isinstance(away.value, StoreRefusedError)
    await silent.close()
