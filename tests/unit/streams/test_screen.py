"""Who may send and who gets no mail."""

from dataclasses import replace

import pytest

from depesche.analytics.directory.things import OwnedDomain
from depesche.schemas.records import (
    Account,
    Customer,
    DropReason,
    Interface,
    JobRecipient,
    RecipientKind,
    SenderDomain,
    Status,
)
from depesche.schemas.values import Address
from depesche.streams.mail.screen import Drop, Sender, role_recipients_of, screen_recipient, screen_sender

ACCOUNT = Account(name="shop", status=Status.ACTIVE, interfaces=(Interface.SMTP,))
DOMAIN = SenderDomain(accounts=(), status=Status.ACTIVE, dkim=())
SENDER = Sender(
    tenant="26124DE",
    account_id="shop",
    customer=Customer(name="Shop", status=Status.ACTIVE),
    account=ACCOUNT,
    domain=OwnedDomain("shop.example", "26124DE", DOMAIN),
)


def recipient(address: str, invalid: str | None = None) -> JobRecipient:
    return JobRecipient(address=address, message=0, block=0, kind=RecipientKind.TO, invalid=invalid)


def reason(verdict: Drop | Address | None) -> DropReason | None:
    return verdict.reason if isinstance(verdict, Drop) else None


def test_a_registered_and_active_sender_passes() -> None:
    assert screen_sender(SENDER) is None


@pytest.mark.parametrize(
    "sender",
    [
        replace(SENDER, domain=None),
        replace(SENDER, tenant="99999DE"),
        replace(SENDER, domain=OwnedDomain("shop.example", "26124DE", replace(DOMAIN, status=Status.DISABLED))),
        replace(SENDER, domain=OwnedDomain("shop.example", "26124DE", replace(DOMAIN, accounts=("other",)))),
        replace(SENDER, account=replace(ACCOUNT, status=Status.LOCKED)),
        replace(SENDER, customer=Customer(name="Shop", status=Status.LOCKED)),
    ],
)
def test_a_sender_who_lost_the_right_is_stopped_although_the_door_said_yes(sender: Sender) -> None:
    assert reason(screen_sender(sender)) is DropReason.FORBIDDEN_SENDER


def test_a_disabled_account_still_gets_out_what_was_accepted_before() -> None:
    assert screen_sender(replace(SENDER, account=replace(ACCOUNT, status=Status.DISABLED))) is None


@pytest.mark.parametrize(
    "address", ["ada@example.org", "info@example.org", "Ada.L+x@example.org", "post-master@a.example"]
)
def test_ordinary_addresses_pass(address: str) -> None:
    assert str(screen_recipient(recipient(address))) == address


@pytest.mark.parametrize("address", ["postmaster@example.org", "PostMaster@example.org", '"postmaster"@example.org'])
def test_role_accounts_get_no_mail_however_they_are_written(address: str) -> None:
    assert reason(screen_recipient(recipient(address))) is DropReason.FORBIDDEN_RECIPIENT


@pytest.mark.parametrize("address", ["", "ada", "ada@", "@example.org", "a b@example.org", "ada@localhost", "a@b@c"])
def test_what_is_no_address_is_dropped_as_such(address: str) -> None:
    assert reason(screen_recipient(recipient(address))) is DropReason.INVALID_ADDRESS


def test_the_doors_objection_comes_first_and_an_unknown_one_is_kept_as_a_validation_error() -> None:
    assert reason(screen_recipient(recipient("postmaster@a.example", "suppressed"))) is DropReason.SUPPRESSED
    assert reason(screen_recipient(recipient("ada@a.example", "of tomorrow"))) is DropReason.VALIDATION_ERROR


def test_an_account_may_widen_or_empty_the_list() -> None:
    wide = role_recipients_of(replace(ACCOUNT, role_recipients=("Info",)))
    assert reason(screen_recipient(recipient("info@a.example"), wide)) is DropReason.FORBIDDEN_RECIPIENT
    assert reason(screen_recipient(recipient("postmaster@a.example"), wide)) is None
    none = role_recipients_of(replace(ACCOUNT, role_recipients=()))
    assert reason(screen_recipient(recipient("postmaster@a.example"), none)) is None
    assert reason(screen_recipient(recipient("postmaster@a.example"), role_recipients_of(None))) is not None
