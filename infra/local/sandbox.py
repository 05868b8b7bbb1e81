"""Where the far side on this machine lives: one place that turns settings into its folders, ports and zone."""

from __future__ import annotations

from depesche.infra.local.postfix import Postfix, PostfixSettings
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.sink.listeners import MAIN, addresses, all_listeners
from depesche.infra.local.sink.server import SinkSettings
from depesche.infra.local.zone import FarSides, sandbox_zone
from depesche.schemas.settings import Settings


def zone_folder(settings: Settings) -> ZoneFolder:
    """The names of the far side."""
    return ZoneFolder(settings.home / "sandbox" / "zone")


def sink_settings(settings: Settings) -> SinkSettings:
    """The scripted mailbox."""
    return SinkSettings(settings.home / "sandbox" / "mailbox", port=settings.sandbox.smtp_port)


def postfix(settings: Settings) -> Postfix:
    """The real Postfix, where the machine has one."""
    folder = settings.home / "sandbox" / "postfix"
    return Postfix(
        PostfixSettings(
            folder,
            settings.sandbox.postfix_host,
            settings.sandbox.smtp_port,
            return_domain=settings.returns.domain,
            return_port=settings.returns.port,
        )
    )


def write_zone(settings: Settings, *, with_postfix: bool) -> None:
    """Write the zone: ``inbox.test`` is Postfix where it runs; whatever is not described lands in the mailbox."""
    far = FarSides(
        sink=MAIN.address,
        inbox=settings.sandbox.postfix_host if with_postfix else MAIN.address,
        listeners=addresses(all_listeners()),
        catch_all=True,
    )
    zone_folder(settings).write_base(sandbox_zone(far))
