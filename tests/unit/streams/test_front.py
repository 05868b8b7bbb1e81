"""What stands in front of a unit's copy: a return path and a key of its own, under a signature that foreign code accepts."""

import re
from email import message_from_bytes

import dkim
import pytest

from depesche.analytics.directory.dkim_keys import new_dkim_key, record_text
from depesche.schemas.canonical import body_sha256
from depesche.schemas.identity import new_job_id, unit_id
from depesche.schemas.records import Interface, Job, JobMessage
from depesche.schemas.return_key import HEADER, Purpose, ReturnKeys
from depesche.streams.mail.dkim import Signer
from depesche.streams.mail.front import Fronts, ReturnPath

HEADER_BYTES = (
    b"From: Shop <orders@shop.example>\r\nTo: ada@example.org\r\nSubject: Hello\r\nContent-Type: text/plain\r\n\r\n"
)
BODY = b"Dear Ada,\r\nit has shipped.\r\n"
KEYS = ReturnKeys({"1": b"k" * 32})
ALGORITHMS = ("rsa-sha256", "ed25519-sha256")
MADE = {algorithm: new_dkim_key(algorithm) for algorithm in ALGORITHMS}  # type: ignore[arg-type]
SIGNERS = [Signer(f"s{number}", "shop.example", MADE[name].private_key) for number, name in enumerate(ALGORITHMS)]
ZONE = {
    f"s{number}._domainkey.shop.example.".encode(): record_text(name, MADE[name].public_key).encode()
    for number, name in enumerate(ALGORITHMS)
}


def job() -> Job:
    message = JobMessage(
        content=(),
        header_size=len(HEADER_BYTES),
        size=len(HEADER_BYTES + BODY),
        body_sha256=body_sha256(BODY),
        message_id="1@shop.example",
        leading_dots=False,
        eight_bit=False,
    )
    return Job(
        job_id=new_job_id(),
        tenant="10001",
        account="a",
        interface=Interface.SMTP,
        received_at=1,
        expires_at=2,
        sender_domain="shop.example",
        messages=(message, message),
        smtputf8=False,
        key_id="",
        sealed_envelope=b"",
    )


def fronts(of: Job, domain: str, signers: list[Signer] | None = None) -> Fronts:
    headers = {0: HEADER_BYTES, 1: HEADER_BYTES}
    chosen = SIGNERS if signers is None else signers
    return Fronts(of, "orders@shop.example", headers, chosen, ReturnPath(KEYS, domain), 1_763_800_000)


def verified(mail: bytes, index: int) -> bool:
    return bool(dkim.DKIM(mail).verify(idx=index, dnsfunc=lambda name, timeout=5: ZONE.get(name)))


def test_each_unit_has_a_return_path_and_a_signed_key_of_its_own() -> None:
    one = job()
    made = fronts(one, "returns.example")
    for number in range(3):
        front = made.of(number % 2, number)
        local, _, domain = front.mail_from.partition("@")
        assert (KEYS.unit(Purpose.BOUNCE, local), domain) == (unit_id(one.job_id, number), "returns.example")
        mail = front.lines + HEADER_BYTES + BODY
        assert KEYS.unit(Purpose.HEADER, message_from_bytes(mail)[HEADER]) == unit_id(one.job_id, number)
        assert verified(mail, 0)
        assert verified(mail, 1)


@pytest.mark.parametrize("change", [lambda key: key.upper(), lambda key: key[:3] + key[:2:-1], lambda key: b""])
def test_the_key_is_under_every_signature(change: object) -> None:
    mail = fronts(job(), "returns.example").of(0, 0).lines + HEADER_BYTES + BODY
    key = re.search(rb"h1-[a-z2-7]{55}", mail)
    assert key is not None
    changed = mail.replace(key[0], change(key[0]))  # type: ignore[operator]
    assert changed != mail
    assert not (verified(changed, 0) or verified(changed, 1))


def test_folded_on_the_way_the_key_is_still_under_the_signature() -> None:
    mail = fronts(job(), "returns.example").of(0, 0).lines + HEADER_BYTES + BODY
    assert verified(mail.replace(b"X-Depesche-Key: ", b"x-depesche-KEY:\r\n\t"), 0)


def test_the_same_unit_prepared_again_is_the_same_to_the_byte_where_the_signature_is() -> None:
    one = job()
    rsa = SIGNERS[:1]
    assert fronts(one, "returns.example", rsa).of(0, 4) == fronts(one, "returns.example", rsa).of(0, 4)


def test_without_a_domain_mail_leaves_as_it_was_submitted() -> None:
    made = fronts(job(), "")
    front = made.of(0, 0)
    assert front.mail_from == "orders@shop.example"
    assert HEADER.encode() not in front.lines
    assert verified(front.lines + HEADER_BYTES + BODY, 0)
    assert made.of(0, 1) is front


def test_unsigned_mail_has_its_key_all_the_same() -> None:
    front = fronts(job(), "returns.example", []).of(0, 0)
    assert re.fullmatch(rb"X-Depesche-Key: h1-[a-z2-7]{55}\r\n", front.lines)
