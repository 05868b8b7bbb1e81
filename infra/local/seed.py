"""The demo customer: an account, a domain whose DKIM key the sandbox's DNS serves, an API key and an SMTP login.

Made once; a second start finds them and changes nothing. The secrets can be shown again, because for a demo they are kept in
``<home>/demo.json`` (0600); nothing else ever stores them.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.dkim_keys import record_name, record_text
from depesche.analytics.directory.registrar import Registrar, new_account
from depesche.analytics.log.client import producer
from depesche.infra.local.sandbox import zone_folder
from depesche.infra.local.zone import Record
from depesche.schemas.errors import UnauthorizedError
from depesche.schemas.records import CredentialUse, SenderDomain
from depesche.schemas.settings import Settings

TENANT = "10000"
ACCOUNT = "10000_local_7b1c6e52-0d53-4e0a-9a55-5d1f7a3c2e10"
DOMAIN = "shop.test"
_BY = "depesche up"


@dataclass(frozen=True, slots=True)
class Demo:
    """What one needs to send as the demo customer. ``user`` and ``password`` are for SMTP and HTTP Basic."""

    tenant: str
    account: str
    domain: str
    api_key: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Demo({self.tenant!r}, {self.domain!r})"


def demo_file(home: Path) -> Path:
    """Where the demo's secrets are kept."""
    return home / "demo.json"


def read_demo(home: Path) -> Demo | None:
    """The demo of this home, or None when there is none (any more)."""
    try:
        return Demo(**orjson.loads(demo_file(home).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


async def seed(settings: Settings) -> Demo:
    """Make what is missing of the demo customer, and publish its DKIM keys in the sandbox's zone.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    keyring = Keyring.open(settings.home / "keys", settings.master_key_file)
    directory = Directory(settings, keyring)
    sender = producer(settings, "depesche-seed")
    await sender.start()
    try:
        await directory.start()
        demo = await _seeded(settings, directory, Registrar(settings, directory, sender, keyring))
        domain = directory.domain(DOMAIN)
    finally:
        await directory.stop()
        await sender.stop()
    if domain is not None:
        publish(settings, DOMAIN, domain.value)
    return demo


def publish(settings: Settings, name: str, domain: SenderDomain) -> None:
    """Have the sandbox's DNS serve the DKIM keys of a domain."""
    records = [
        Record(record_name(key.selector, name), "TXT", record_text(key.algorithm, key.public_key))
        for key in domain.dkim
        if key.active
    ]
    zone_folder(settings).publish(*records)


async def _seeded(settings: Settings, directory: Directory, registrar: Registrar) -> Demo:
    if directory.customer(TENANT) is None:
        await registrar.add_customer(TENANT, "Demo", _BY)
    if directory.book.account(ACCOUNT) is None:
        await registrar.add_account(TENANT, new_account("demo"), _BY, id_=ACCOUNT)
    if directory.domain(DOMAIN) is None:
        await registrar.add_domain(TENANT, DOMAIN, _BY)
    kept = read_demo(settings.home)
    if kept is not None and _works(directory, kept):
        return kept
    key = await registrar.add_key(ACCOUNT, "demo", CredentialUse.API_KEY, _BY)
    login = await registrar.add_key(ACCOUNT, "demo login", CredentialUse.LOGIN, _BY)
    demo = Demo(TENANT, ACCOUNT, DOMAIN, key.token, login.key_id, login.secret)
    _write(demo_file(settings.home), demo)
    return demo


def _works(directory: Directory, demo: Demo) -> bool:
    try:
        directory.bearer(demo.api_key)
        directory.login(demo.user, demo.password)
    except UnauthorizedError:
        return False
    return True


def _write(file: Path, demo: Demo) -> None:
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as output:
        output.write(orjson.dumps(asdict(demo), option=orjson.OPT_INDENT_2))
        output.flush()
        os.fsync(handle)
    draft.replace(file)
