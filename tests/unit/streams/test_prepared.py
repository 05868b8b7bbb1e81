"""What the prepare stage lays into a unit: the sender domain's wish for TLS, and addresses in the form that the wire needs."""

from dataclasses import replace

import pytest

from depesche.analytics.archive.keyring import DataKey
from depesche.schemas.codec import decode
from depesche.schemas.records import (
    Interface,
    Job,
    JobEnvelope,
    JobMessage,
    JobRecipient,
    MailUnit,
    RecipientKind,
    SenderDomain,
    Status,
    UnitEnvelope,
)
from depesche.schemas.values import Address
from depesche.streams.mail.front import Front
from depesche.streams.mail.shaping.shape import Shape
from depesche.streams.stages.lane import asked_tls
from depesche.streams.stages.prepared import JobOpened, UnitStory

KEY = DataKey("1/20260101", b"k" * 32)
SHAPE = Shape("example.org", 10, None, 100, ("1m",))
SHOP = SenderDomain(accounts=(), status=Status.ACTIVE, dkim=())


def prepared(address: str, sender: SenderDomain = SHOP, *, eight_bit: bool = False, smtputf8: bool = False) -> MailUnit:
    message = JobMessage(
        content=(),
        header_size=1,
        size=1,
        body_sha256=b"",
        message_id="1@shop.test",
        leading_dots=False,
        eight_bit=eight_bit,
    )
    recipient = JobRecipient(address=address, message=0, block=0, kind=RecipientKind.TO)
    envelope = JobEnvelope(
        mail_from="a@shop.test", header_from="a@shop.test", subject="", client="", recipients=(recipient,)
    )
    job = Job(
        job_id="j",
        tenant="1",
        account="main",
        interface=Interface.SMTP,
        received_at=0,
        expires_at=1,
        sender_domain="shop.test",
        messages=(message,),
        smtputf8=smtputf8,
        key_id=KEY.id,
        sealed_envelope=b"",
    )
    story = UnitStory(JobOpened(job, envelope, KEY, b"secret", "w"), 0, Address.parse(address))
    return story.unit(Front("return@shop.test", b""), sender)


def recipient_of(unit: MailUnit) -> str:
    return decode(UnitEnvelope, KEY.open(unit.sealed_envelope, b"unit|" + unit.unit_id.encode())).recipient


@pytest.mark.parametrize("word", ["may", "must", "of another version"])
def test_what_a_sender_domain_asks_of_tls_goes_with_each_of_its_units(word: str) -> None:
    unit = prepared("ada@example.org", replace(SHOP, tls=word))
    assert unit.tls == word
    assert asked_tls(unit, SHAPE) == ("may" if word == "may" else "must")


@pytest.mark.parametrize(
    ("address", "on_the_wire", "domain", "smtputf8"),
    [
        ("ada@Example.ORG", "ada@example.org", "example.org", False),
        ("ada@Größe.example", "ada@xn--gre-6ka8i.example", "xn--gre-6ka8i.example", False),
        ("käthe@example.org", "käthe@example.org", "example.org", True),
        ("käthe@größe.example", "käthe@xn--gre-6ka8i.example", "xn--gre-6ka8i.example", True),
    ],
)
def test_a_domain_goes_as_an_a_label_and_only_a_local_part_asks_for_smtputf8(
    address: str, on_the_wire: str, domain: str, smtputf8: bool
) -> None:
    unit = prepared(address)
    assert (recipient_of(unit), unit.recipient_domain, unit.smtputf8) == (on_the_wire, domain, smtputf8)


def test_what_the_content_needs_goes_with_every_unit() -> None:
    unit = prepared("ada@example.org", eight_bit=True, smtputf8=True)
    assert (unit.eight_bit, unit.smtputf8) == (True, True)
    unit = prepared("ada@example.org")
    assert (unit.eight_bit, unit.smtputf8, unit.tls) == (False, False, "may")
