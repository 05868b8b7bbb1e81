"""Large mails are scanned in a thread of their own; the verdict must come all the same."""

from depesche.infra.local.eicar import eicar
from depesche.streams.wire.yara import LARGE, Yara

HEADER = b"From: a@shop.test\r\nSubject: large\r\n\r\n"


async def test_a_large_clean_mail_passes() -> None:
    assert await Yara().scan(HEADER + b"clean text\r\n" * (LARGE // 10)) is None


async def test_a_large_infected_mail_is_found() -> None:
    found = await Yara().scan(HEADER + b"clean text\r\n" * (LARGE // 10) + eicar() + b"\r\n")
    assert found == "eicar_test_file"
