"""YARA-X alone finds the test virus wherever it hides, and gives its verdict on large mails too."""

import pytest

from depesche.infra.local.eicar import eicar
from depesche.streams.wire.yara import LARGE, Yara
from tests.infected import INFECTED, with_attachment

HEADER = b"From: a@shop.test\r\nSubject: large\r\n\r\n"


@pytest.mark.parametrize("place", INFECTED)
async def test_the_test_virus_is_found_wherever_it_is(place: str) -> None:
    assert await Yara().scan(INFECTED[place]) == "eicar_test_file"


async def test_a_mail_with_a_clean_attachment_passes() -> None:
    assert await Yara().scan(with_attachment(b"Nothing to see here.")) is None


async def test_a_large_clean_mail_passes() -> None:
    assert await Yara().scan(HEADER + b"clean text\r\n" * (LARGE // 10)) is None


async def test_a_large_infected_mail_is_found() -> None:
    found = await Yara().scan(HEADER + b"clean text\r\n" * (LARGE // 10) + eicar() + b"\r\n")
    assert found == "eicar_test_file"
