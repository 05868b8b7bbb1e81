"""Which services run where: read from one setting, and refused before anything starts when it cannot be."""

from pathlib import Path

import pytest

from depesche.infra.assemble import MAKERS
from depesche.infra.layout import SERVICES, processes
from depesche.infra.load import load
from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings


def laid_out(*entries: str, sandbox: bool = True) -> Settings:
    environment = {"DEPESCHE_HOME": str(Path.cwd()), "DEPESCHE_SANDBOX__ENABLED": str(sandbox)}
    if entries:
        environment["DEPESCHE_LAYOUT"] = ",".join(entries)
    return load(environment).settings


REST = "all=rest+smtp+inbound+retry+returns+analytics+monitor+agents+dns+mailbox"


def test_every_service_that_can_be_named_can_be_made() -> None:
    assert set(MAKERS) == set(SERVICES)


def test_every_service_runs_by_default() -> None:
    hosted = [service for process in processes(laid_out()) for service in process.services]
    assert sorted(hosted) == sorted(SERVICES)


def test_without_the_sandbox_its_process_is_gone() -> None:
    names = {process.name for process in processes(laid_out(sandbox=False))}
    assert "sandbox" not in names
    assert "doors" in names


def test_work_can_be_split_over_processes() -> None:
    found = processes(laid_out(REST, "one=prepare+deliver", "two=prepare+deliver"))
    assert [process.name for process in found if "deliver" in process.services] == ["one", "two"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((REST, "one=prepare"), "deliver would run nowhere"),
        ((REST, "one=prepare+deliver", "two=rest"), "rest listens on one port"),
        ((REST, "one=prepare", "one=deliver"), "process one stands there twice"),
        ((REST, "one"), "has not the form"),
        ((REST, "one=prepare+delivery"), "There is no service delivery"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(entries: tuple[str, ...], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        processes(laid_out(*entries))


def test_a_process_waits_for_what_its_services_need() -> None:
    needs = {process.name: process.needs for process in processes(laid_out())}
    assert needs["analytics"] == {"log", "store"}
    assert needs["sandbox"] == frozenset()
