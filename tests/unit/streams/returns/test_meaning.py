"""Which unit a returned mail is about, and what it means for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.identity import new_job_id, unit_id
from depesche.schemas.records import EventType
from depesche.schemas.return_key import Purpose, ReturnKeys
from depesche.streams.mail.front import ReturnPath
from depesche.streams.mail.returns.meaning import Fact, Reading, fact_of, read_returned
from tests import shapes

KEYS = ReturnKeys({"1": b"k" * 32})
JOB, OTHER = new_job_id(), new_job_id()
PATH = ReturnPath(KEYS, "returns.test")
RECIPIENT = "ada@example.org"


def our_mail(job: str = JOB, number: int = 3) -> bytes:
    return (
        f"Return-Path: <{PATH.mail_from(job, number)}>\r\n".encode()
        + b"DKIM-Signature: v=1; a=rsa-sha256; d=shop.test; s=s1; b=abc\r\n"
        + PATH.header_line(job, number)
        + b"From: Shop <hello@shop.test>\r\nTo: ada@example.org\r\nSubject: Your order\r\nMessage-ID: <1@shop.test>\r\n"
        b"List-Unsubscribe: <mailto:u@shop.test>\r\n\r\nDear Ada <ada@example.org>,\r\nit has shipped.\r\n"
    )


def token(purpose: Purpose, job: str = JOB, number: int = 3) -> str:
    return KEYS.token(purpose, job, number)


def address(purpose: Purpose, job: str = JOB, number: int = 3) -> str:
    return f"{token(purpose, job, number)}@returns.test"


def facts(mail: bytes, *recipients: str) -> list[tuple[str, Fact]]:
    reading = read_returned(mail, recipients or ("fbl@returns.test",), KEYS)
    found = [(unit, fact_of(reading, unit.purpose, RECIPIENT)) for unit in reading.units]
    return [(unit.unit_id, fact) for unit, fact in found if fact is not None]


def reading_of(mail: bytes) -> Reading:
    return read_returned(mail, ("fbl@returns.test",), KEYS)


@pytest.mark.parametrize("shape", shapes.COMPLAINTS)
def test_with_every_address_masked_a_complaint_finds_its_unit(shape: str) -> None:
    mail = shapes.COMPLAINTS[shape](shapes.masked(our_mail()))
    assert RECIPIENT.encode() not in mail
    [(unit, fact)] = facts(mail)
    assert unit == unit_id(JOB, 3)
    assert (fact.type, fact.report.verdict.suppress) == (EventType.COMPLAINED, True)


def test_the_return_path_alone_is_enough_as_well() -> None:
    mail = our_mail().replace(PATH.header_line(JOB, 3), b"")
    [(unit, _)] = facts(shapes.minimal(mail))
    assert unit == unit_id(JOB, 3)


@pytest.mark.parametrize(
    ("feedback_type", "said", "suppress"),
    [
        ("abuse", EventType.COMPLAINED, True),
        ("fraud", EventType.COMPLAINED, False),
        ("virus", EventType.COMPLAINED, False),
        ("other", EventType.COMPLAINED, False),
        ("opt-out", EventType.UNSUBSCRIBED, True),
        ("not-spam", None, None),
        ("auth-failure", None, None),
    ],
)
def test_only_what_says_that_somebody_minds_is_a_fact(
    feedback_type: str, said: EventType | None, suppress: bool | None
) -> None:
    found = facts(shapes.report(our_mail(), feedback_type))
    assert [fact.type for _, fact in found] == ([said] if said else [])
    assert [fact.report.verdict.suppress for _, fact in found] == ([suppress] if said else [])


def test_several_mails_in_one_report_are_several_facts() -> None:
    both = shapes.report(our_mail()).replace(
        b"--=_b--", b"--=_b\r\nContent-Type: message/rfc822\r\n\r\n" + our_mail(OTHER, 0) + b"\r\n--=_b--"
    )
    assert [unit for unit, _ in facts(both)] == [unit_id(JOB, 3), unit_id(OTHER, 0)]


def test_the_address_it_was_sent_to_outranks_whatever_stands_in_it() -> None:
    mail = shapes.delivery_report(our_mail(OTHER, 0), RECIPIENT)
    [(unit, fact)] = facts(mail, address(Purpose.BOUNCE).upper())
    assert (unit, fact.type, fact.report.verdict.suppress) == (unit_id(JOB, 3), EventType.BOUNCED, True)


def test_the_header_of_the_copy_outranks_keys_that_it_quotes() -> None:
    quoting = our_mail() + b"\r\n> X-Depesche-Key: " + token(Purpose.HEADER, OTHER, 1).encode() + b"\r\n"
    assert [unit for unit, _ in facts(shapes.minimal(quoting))] == [unit_id(JOB, 3)]


def test_a_bounce_that_names_several_is_the_one_about_our_recipient() -> None:
    mail = shapes.delivery_report(our_mail(), "someone@else.example", status="5.2.2").replace(
        b"\r\nFinal-Recipient",
        b"\r\nFinal-Recipient: rfc822; ADA@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\nFinal-Recipient",
        1,
    )
    [(_, fact)] = facts(mail, address(Purpose.BOUNCE))
    assert (fact.report.recipient, fact.report.reply.enhanced) == ("ADA@example.org", "5.1.1")


@pytest.mark.parametrize(
    "mail",
    [
        shapes.delivery_report(our_mail(), RECIPIENT, "delayed", "4.4.1"),
        shapes.delivery_report(our_mail(), RECIPIENT, "delivered", "2.1.5"),
        shapes.delivery_report(our_mail(), RECIPIENT, "relayed", "2.1.5"),
        shapes.delivery_report(our_mail(), RECIPIENT, "expanded", "2.1.5"),
        shapes.out_of_office(RECIPIENT),
        shapes.unsubscribe(),
        shapes.report(our_mail(), "not-spam"),
        b"From: ada@example.org\r\nSubject: Re: Your order\r\n\r\nThank you, it has arrived.\r\n",
        b"",
        b"\r\n.\r\n",
    ],
    ids=["delayed", "delivered", "relayed", "expanded", "out of office", "unsubscribe", "not spam", "letter", "", "."],
)
def test_at_the_return_path_only_failures_and_complaints_are_facts(mail: bytes) -> None:
    assert facts(mail, address(Purpose.BOUNCE)) == []


def test_a_failure_after_days_of_trying_is_a_bounce_that_suppresses_nobody() -> None:
    [(_, fact)] = facts(shapes.delivery_report(our_mail(), RECIPIENT, "failed", "4.4.7"), address(Purpose.BOUNCE))
    assert (fact.type, fact.report.verdict.suppress) == (EventType.BOUNCED, False)


@pytest.mark.parametrize(
    ("mail", "counts"),
    [
        (shapes.unsubscribe(), True),
        (b"From: ada@example.org\r\nSubject: bitte nicht mehr\r\n\r\n\r\n", True),
        (b"\r\n", True),
        (shapes.unsubscribe().replace(b"From:", b"Auto-Submitted: auto-generated\r\nFrom:"), True),
        (shapes.out_of_office(RECIPIENT), False),
        (shapes.delivery_report(our_mail(), RECIPIENT), False),
        (shapes.report(our_mail()), False),
    ],
    ids=["unsubscribe", "any words", "no words", "a program on order", "out of office", "bounce", "complaint"],
)
def test_at_the_address_of_an_unsubscribe_a_person_s_mail_is_one(mail: bytes, counts: bool) -> None:
    found = facts(mail, address(Purpose.UNSUBSCRIBE))
    assert [(unit, fact.type) for unit, fact in found] == [(unit_id(JOB, 3), EventType.UNSUBSCRIBED)] * counts


FORGED = [
    token(Purpose.HEADER)[:-2] + ("aa" if token(Purpose.HEADER)[-2:] != "aa" else "bi"),
    "b1" + token(Purpose.HEADER)[2:],
    "h1" + token(Purpose.BOUNCE)[2:],
    "h2" + token(Purpose.HEADER)[2:],
    token(Purpose.UNSUBSCRIBE),
    ReturnKeys({"1": b"x" * 32}).token(Purpose.HEADER, JOB, 3),
    "h1-" + "a" * 55,
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_key_and_one_for_another_purpose_change_nothing(forged: str) -> None:
    mail = shapes.masked(our_mail()).replace(token(Purpose.HEADER).encode(), forged.encode())
    for shape in shapes.COMPLAINTS.values():
        assert facts(shape(mail)) == []
    assert facts(shapes.delivery_report(mail, RECIPIENT), f"{forged}@returns.test") == []


@given(st.binary(max_size=2000))
@settings(max_examples=50)
def test_whatever_a_stranger_writes_it_is_read(noise: bytes) -> None:
    reading_of(noise)
    assert facts(noise, address(Purpose.UNSUBSCRIBE)) is not None
    reading_of(shapes.report(noise))


def test_a_mail_full_of_keys_is_read_in_bounds() -> None:
    many = " ".join(token(Purpose.HEADER, new_job_id(), number) for number in range(300))
    reading = reading_of(b"Subject: x\r\n\r\n" + many.encode())
    assert len(reading.units) == 100
    junk = "\r\n".join("h1-" + f"{number:055d}".replace("0", "a").replace("1", "b")[:55] for number in range(20_000))
    assert reading_of(b"Subject: x\r\n\r\n" + junk.encode()).units == ()
