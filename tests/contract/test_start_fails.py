"""A service that cannot start leaves no client of the log open; the supervisor starts it again in a moment."""

import gc
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.schemas.service import Service
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry


def _deliver(settings: Settings) -> Service:
    keyring = Keyring.open(settings.home / "keys", settings.master_key_file)
    return Deliver(settings, keyring, ArchiveReader(settings.archive_directory, keyring), "a")


SERVICES: dict[str, Callable[[Settings], Service]] = {
    "deliver": _deliver,
    "retry": lambda settings: Retry(settings, "a"),
}


@pytest.mark.parametrize("name", SERVICES)
async def test_without_a_broker_nothing_stays_open(name: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    settings = Settings(home=tmp_path, kafka=KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"))
    service = SERVICES[name](settings)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(KafkaError):
            await service.run(lambda: None)
        del service
        gc.collect()
    assert [str(one.message) for one in told if issubclass(one.category, ResourceWarning)] == []
