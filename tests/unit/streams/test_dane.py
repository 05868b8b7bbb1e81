"""Which chains TLSA records vouch for (RFC 7672, 7671)."""

import datetime
from hashlib import sha256, sha512
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from depesche.infra.local.authority import Authority, Issued
from depesche.infra.local.certificate import Validity
from depesche.streams.mail.dane import Objection, TLSARecord, verify

NOW = datetime.datetime.now(datetime.UTC)
HOST, DOMAIN = "mx.example.org", "example.org"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def record(usage: int, selector: int, matching: int, der: bytes) -> TLSARecord:
    """The record that an operator would publish for a certificate."""
    data = der
    if selector == 1:
        key = x509.load_der_x509_certificate(der).public_key()
        data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return TLSARecord(
        usage, selector, matching, (bytes, lambda b: sha256(b).digest(), lambda b: sha512(b).digest())[matching](data)
    )


def judged(issued: Issued, *records: TLSARecord, names: tuple[str, ...] = (HOST, DOMAIN)) -> Objection | None:
    assert all(record.usable for record in records)
    return verify(issued.chain, records, names, NOW)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("usage", [2, 3])
def test_every_way_to_write_a_record_fits_the_right_chain_and_no_other(
    authority: Authority, tmp_path: Path, usage: int, selector: int, matching: int
) -> None:
    right, wrong = authority.issue("right", [HOST]), Authority(tmp_path).issue("wrong", [HOST])
    published = record(usage, selector, matching, right.chain[0 if usage == 3 else 1])
    assert judged(right, published) is None
    assert judged(wrong, published) == Objection("certificate-not-trusted", judged(wrong, published).reason)  # type: ignore[union-attr]
    assert judged(wrong, published, record(usage, selector, matching, wrong.chain[0 if usage == 3 else 2])) is None


def test_for_the_hosts_own_certificate_names_and_dates_do_not_matter(authority: Authority) -> None:
    old = authority.issue("old", ["another.example"], Validity(-90, -1))
    assert judged(old, record(3, 1, 1, old.chain[0])) is None


def test_under_an_authority_names_and_dates_do_matter(authority: Authority) -> None:
    root = record(2, 0, 1, authority.issue("x", [HOST]).chain[2])
    cases = {
        "certificate-expired": authority.issue("expired", [HOST], Validity(-90, -1)),
        "certificate-host-mismatch": authority.issue("other", ["mx.example.net", "*.example.net", "*.mx.example.org"]),
    }
    for result, issued in cases.items():
        objection = judged(issued, root)
        assert objection is not None
        assert objection.result == result
    for names in ([DOMAIN], ["*.example.org"], ["MX.Example.ORG"]):
        assert judged(authority.issue("good", names), root) is None, names


def test_an_authority_must_be_one_and_must_have_signed(authority: Authority, tmp_path: Path) -> None:
    good, stranger = authority.issue("good", [HOST]), Authority(tmp_path)
    # The real authority's certificates behind a stranger's: shown, but they signed nothing of it.
    forged = Issued(good.files, (stranger.issue("f", [HOST]).chain[0], *good.chain[1:]))
    assert judged(forged, record(2, 0, 1, good.chain[1])) is not None
    # A certificate that is no authority's has signed nothing, whoever names it one.
    assert judged(good, record(2, 0, 1, good.chain[0])) is not None
    # An authority that the host does not show is found where the record holds all of it, and only there.
    short = Issued(good.files, good.chain[:2])
    assert judged(short, record(2, 0, 0, good.chain[2])) is None
    assert judged(short, record(2, 0, 1, good.chain[2])) is not None


def test_one_fitting_record_among_many_is_enough(authority: Authority) -> None:
    good, other = authority.issue("good", [HOST]), authority.issue("other", [HOST])
    assert (
        judged(good, record(3, 1, 1, other.chain[0]), record(2, 1, 2, other.chain[0]), record(3, 0, 2, good.chain[0]))
        is None
    )


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=70))
def test_only_what_an_smtp_client_can_go_by_is_usable(usage: int, selector: int, matching: int, data: bytes) -> None:
    sizes = {0: len(data) or -1, 1: 32, 2: 64}
    wanted = usage in (2, 3) and selector in (0, 1) and sizes.get(matching) == len(data)
    assert TLSARecord(usage, selector, matching, data).usable is wanted


@given(st.lists(st.binary(max_size=40), max_size=3), st.binary(min_size=32, max_size=32))
def test_rubbish_is_an_objection_and_never_a_fault(chain: list[bytes], digest: bytes) -> None:
    assert verify(chain, [TLSARecord(3, 1, 1, digest), TLSARecord(2, 0, 0, digest)], [HOST], NOW) is not None
