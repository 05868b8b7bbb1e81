"""Every command stands in one section of `depesche --help`, and every section names commands that there are."""

import typer

from depesche.infra.cli.main import build
from depesche.infra.cli.sections import SECTIONS, SERVICES, sections
from depesche.infra.layout import SERVICES as ALL_SERVICES

MACHINE_ROOM = {"serve", "services", "topics", "tables", "api"}


def test_only_services_and_the_machine_room_have_no_section_of_their_own() -> None:
    commands = list(typer.main.get_command(build()).commands)  # type: ignore[attr-defined]
    named = [name for _, names in SECTIONS for name in names]
    assert len(named) == len(set(named))
    assert set(named) <= set(commands)
    shown = dict(sections(commands))
    assert set(shown.pop(SERVICES)) <= MACHINE_ROOM | set(ALL_SERVICES)
    assert sorted(name for names in shown.values() for name in names) == sorted(named)
