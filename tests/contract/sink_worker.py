"""A sink in a process of its own, to be killed; everything it needs is in its environment."""

import asyncio
import json
import os

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.sink import Sink
from depesche.schemas.settings import Settings


async def main() -> None:
    """Run until killed."""
    values = json.loads(os.environ["SETTINGS"])
    values["clickhouse"]["password"] = os.environ["PASSWORD"]
    settings = Settings.model_validate(values)
    keyring = Keyring.open(settings.home / "keys")
    await Sink(settings, keyring, StoreClient(settings, "worker"), "a").run(lambda: None)


if __name__ == "__main__":
    asyncio.run(main())
