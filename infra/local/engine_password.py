"""The embedded engine's own password: made once, and known to whoever may read this home.

Apart from the programs of the local stack, so that a command that only asks the store does not wait for all of them.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from depesche.infra.load import CLICKHOUSE_PASSWORD_FILE
from depesche.schemas.settings import Settings


def engine_password(home: Path) -> str:
    """The embedded engine's password, made on the first call (0600)."""
    file = home / CLICKHOUSE_PASSWORD_FILE
    try:
        return file.read_text("utf-8").strip()
    except FileNotFoundError:
        # Two starts at once are kept apart by the lock of the home.
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w") as output:
            output.write(secrets.token_urlsafe(24))
        return file.read_text("utf-8")


def with_engine_password(settings: Settings) -> Settings:
    """The settings with the embedded engine's own password, where the engine is embedded and none is set."""
    clickhouse = settings.clickhouse
    if clickhouse.url or clickhouse.password.get_secret_value():
        return settings
    own = clickhouse.model_copy(update={"password": SecretStr(engine_password(settings.home))})
    return settings.model_copy(update={"clickhouse": own})
