"""What a submission session says and does, command by command (RFC 5321, 6409, 4954, 3207, 2920)."""

from __future__ import annotations

from tests.contract.smtp.bench import RunningDoor


async def test_a_mail_is_taken_with_the_job_id_in_the_reply(door: RunningDoor) -> None:
    client = await door.session()
    reply = await client.mail()
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    assert len(reply.rpartition(" ")[2]) == 36
    assert await client.command("QUIT") == "221 2.0.0 Bye"
    assert await client.reply() == ""
