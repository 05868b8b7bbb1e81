"""The native API: what is taken, what is refused, and in which words."""

from __future__ import annotations

import email

from .conftest import World

MAIL = {"from": "Shop <news@shop.example>", "to": ["Ada <ada@example.org>"], "subject": "Hello", "text": "It works."}


async def test_an_email_is_taken_and_its_job_is_in_the_log(world: World) -> None:
    answer = await world.client.post("/v1/emails", json=MAIL, headers=world.bearer)
    print(answer.text, answer.headers)
    assert answer.status_code == 202
