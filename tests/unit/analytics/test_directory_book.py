"""The directory's fold: whoever reads the same records holds the same book, also after compaction."""

from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.directory.book import Book, record_key
from depesche.schemas.records import Account, DirectoryKind, DirectoryRecord, Interface, SenderDomain, Status


def a_domain(tenant: str, name: str = "shop.test", claimed_at: int | None = None, label: str = "") -> DirectoryRecord:
    value = SenderDomain(accounts=(), status=Status.ACTIVE, client=label, dkim=())
    return DirectoryRecord(
        kind=DirectoryKind.DOMAIN,
        id=name,
        tenant=tenant,
        changed_at=0,
        changed_by="t",
        claimed_at=claimed_at,
        value=value,
    )


def owner(book: Book, name: str = "shop.test") -> str | None:
    found = book.domain(name)
    return found.tenant if found else None


def test_the_first_registration_wins() -> None:
    book = Book()
    book.apply(a_domain("one"), 5)
    book.apply(a_domain("two"), 6)
    assert owner(book) == "one"


def test_a_later_version_of_the_winner_still_wins_after_compaction() -> None:
    # The winner's first record (offset 5) was compacted away; its newer version stands behind the loser's claim.
    book = Book()
    book.apply(a_domain("two"), 6)
    book.apply(a_domain("one", claimed_at=5, label="new"), 9)
    assert owner(book) == "one"


def test_when_the_winner_goes_the_next_claim_holds() -> None:
    book = Book()
    book.apply(a_domain("one"), 5)
    book.apply(a_domain("two"), 6)
    book.remove(record_key(DirectoryKind.DOMAIN, "shop.test", "one"))
    assert owner(book) == "two"
    book.remove(record_key(DirectoryKind.DOMAIN, "shop.test", "two"))
    assert owner(book) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "remove"])), max_size=30))
def test_a_compacted_log_gives_the_same_owner_as_the_whole_one(steps: list[tuple[str, str]]) -> None:
    whole, log = Book(), []
    for offset, (tenant, step) in enumerate(steps):
        held = whole.claim_of(DirectoryKind.DOMAIN, "shop.test", tenant)
        if step == "remove":
            whole.remove(record_key(DirectoryKind.DOMAIN, "shop.test", tenant))
            log.append((offset, tenant, None))
        else:
            record = a_domain(tenant, claimed_at=held.claim if held else None)
            whole.apply(record, offset)
            log.append((offset, tenant, record))
    compacted = Book()
    newest = {tenant: offset for offset, tenant, _ in log}
    for offset, tenant, record in log:
        if newest[tenant] == offset and record is not None:
            compacted.apply(record, offset)
    assert owner(compacted) == owner(whole)


def test_a_source_address_leads_to_its_account_only_when_it_is_a_login() -> None:
    book = Book()
    for number, by_ip in enumerate((True, False)):
        account = Account(
            name="x",
            status=Status.ACTIVE,
            interfaces=(Interface.SMTP,),
            source_ips=(f"127.0.0.{number}",),
            login_by_ip=by_ip,
        )
        book.apply(
            DirectoryRecord(
                kind=DirectoryKind.ACCOUNT, id=f"a{number}", tenant="t", changed_at=0, changed_by="t", value=account
            ),
            number,
        )
    assert book.account_by_ip("127.0.0.0") == "a0"
    assert book.account_by_ip("127.0.0.1") is None
