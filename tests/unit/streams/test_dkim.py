"""What we sign, a foreign verifier accepts; what is changed or added on the way, it refuses."""

import base64
import re
from functools import cache

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.analytics.directory.dkim_keys import new_dkim_key, record_text
from depesche.schemas.canonical import body_sha256
from depesche.streams.mail.dkim import Signer, relaxed, sign_all, signed_fields

HEADER = (
    b"Received: from a by b\r\n"
    b"From: Ada Example <ada@example.org>\r\n"
    b"To: bob@example.net\r\n"
    b"Subject: Gr=?utf-8?q?=C3=BC?=\r\n =?utf-8?q?=C3=9Fe?=\t  aus  Jena\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"\r\n"
)
BODY = b"Hallo,\r\n\r\n.\r\nmit Punkt \r\n\r\n\r\n"

# The published example keys of RFC 8463 appendix A: with a fixed key both algorithms always give the same bytes.
GOLDEN_ED25519 = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
GOLDEN_RSA = b"""-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
"""


GOLDEN_RSA_LINE = [
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple;",
    "\td=football.example.com; s=test;",
    "\tt=1528637909; bh=a4qH4+PB1VfLsEOcg86aqViI9XR5zVwHH5rjSxlkMkk=;",
    "\th=from:from:reply-to:subject:subject:to:to:cc:content-type:",
    "\tcontent-type:date:date:message-id:message-id:mime-version:",
    "\tmime-version;",
    "\tb=XNat2OzzoG5hEHVTSC8xbl/TrEQr+GtgFzQmgd0beAfUQF7IZQ6XfZoUVmp30Ut/aq",
    "\taKfGMYwUhBHk8desuK4TOjx+uk3QQUJKjUSaUH2H3BWIHQBZTzh6IvOAzzG4nZqUvZ2L",
    "\tBNFWISLNeLAuyLldUSLDNEqj2x5/8JTXTH7so=",
    "",
]
GOLDEN_ED25519_LINE = [
    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/simple;",
    "\td=football.example.com; s=test;",
    "\tt=1528637909; bh=a4qH4+PB1VfLsEOcg86aqViI9XR5zVwHH5rjSxlkMkk=;",
    "\th=from:from:reply-to:subject:subject:to:to:cc:content-type:",
    "\tcontent-type:date:date:message-id:message-id:mime-version:",
    "\tmime-version;",
    "\tb=+PyoNivbReel+co/OwPiopzwAPrUe5fMxmGXc9fLSjBUJj1kqOE3JVyso4uNarLa+J",
    "\tOSAfVMx/h9S89+Dm9+Cw==",
    "",
]


@cache
def signer_and_zone(algorithm: str) -> tuple[Signer, dict[bytes, bytes]]:
    key = new_dkim_key(algorithm)  # type: ignore[arg-type]
    record = record_text(algorithm, key.public_key).encode()
    return Signer("s1", "example.org", key.private_key), {b"s1._domainkey.example.org.": record}


def verified(message: bytes, algorithm: str = "rsa-sha256", index: int = 0) -> bool:
    zone = signer_and_zone(algorithm)[1]
    try:
        return bool(dkim.DKIM(message, minkey=1024).verify(index, dnsfunc=lambda name, timeout=5: zone.get(name)))
    except dkim.ValidationError:
        return False


def signed(header: bytes = HEADER, body: bytes = BODY, algorithm: str = "rsa-sha256") -> bytes:
    return signer_and_zone(algorithm)[0].sign(header, body_sha256(body), 1763800000) + header + body


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
def test_a_foreign_verifier_accepts_the_signature(algorithm: str) -> None:
    assert verified(signed(algorithm=algorithm), algorithm)


def test_both_signatures_stand_side_by_side() -> None:
    signers = [signer_and_zone(algorithm)[0] for algorithm in ("rsa-sha256", "ed25519-sha256")]
    message = sign_all(signers, HEADER, body_sha256(BODY), 1763800000) + HEADER + BODY
    assert verified(message, "rsa-sha256", 0)
    assert verified(message, "ed25519-sha256", 1)


def test_no_signer_leaves_the_message_unsigned() -> None:
    assert sign_all([], b"no From here", b"", 0) == b""


@pytest.mark.parametrize(
    "added",
    [
        b"From: eve@evil.example\r\n",
        b"Subject: another\r\n",
        b"Reply-To: eve@evil.example\r\n",
        b"Cc: eve@evil.example\r\n",
        b"To: eve@evil.example\r\n",
        b"Content-Type: text/html\r\n",
        b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n",
    ],
)
def test_a_field_added_on_the_way_breaks_the_signature(added: bytes) -> None:
    message = signed()
    end = message.index(b"\r\n\r\n") + 2
    assert not verified(message[:end] + added + message[end:])
    assert not verified(added + message)


def test_a_changed_body_breaks_the_signature() -> None:
    assert not verified(signed().replace(b"Punkt", b"Komma"))


def test_fields_that_relays_add_do_not_break_it() -> None:
    assert verified(b"Received: from x by y\r\nReturn-Path: <a@b.example>\r\n" + signed())


def test_repeated_fields_are_signed_from_the_bottom_up() -> None:
    header = HEADER.replace(b"MIME-Version", b"References: <a@b>\r\nReferences: <c@d>\r\nMIME-Version")
    assert verified(signed(header))
    canonical = signed_fields(header).canonical
    assert canonical.index(b"references:<c@d>") < canonical.index(b"references:<a@b>")


def _golden(kind: str) -> Signer:
    key: PrivateKeyTypes
    if kind == "rsa":
        key = load_pem_private_key(GOLDEN_RSA, None)
    else:
        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(GOLDEN_ED25519))
    return Signer("test", "football.example.com", key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(("kind", "expected"), [("rsa", "GOLDEN_RSA_LINE"), ("ed25519", "GOLDEN_ED25519_LINE")])
def test_the_golden_signature(kind: str, expected: str) -> None:
    """To the byte: a change here is a change of what every receiver sees, and must be meant."""
    line = _golden(kind).sign(HEADER, body_sha256(BODY), 1528637909)
    assert line.decode().split("\r\n") == globals()[expected]


def test_lines_stay_below_79_columns_and_are_only_folded_after_blanks_or_colons() -> None:
    for line in signed()[: signed().index(b"From:")].split(b"\r\n"):
        assert len(line.expandtabs(8)) <= 78


def test_no_length_tag_and_no_sha1() -> None:
    tags = relaxed(signed()[: signed().index(b"From:")])
    assert b"; l=" not in tags
    assert b"a=rsa-sha256" in tags


def test_a_blank_before_the_colon_belongs_to_the_old_syntax_and_does_not_hide_a_field() -> None:
    assert signed_fields(b"From\t: a@b.example\r\n\r\n").canonical == b"from:a@b.example\r\n"


def test_a_message_without_from_is_refused() -> None:
    with pytest.raises(ValueError, match="From"):
        signed_fields(b"Subject: x\r\n\r\n")


def test_keys_that_must_not_sign_are_refused() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    short = rsa.generate_private_key(65537, 1024)
    der = short.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert Signer("s", "example.org", der).algorithm == "rsa-sha256"
    with pytest.raises(ValueError, match="DKIM knows no"):
        Signer("s", "example.org", curve.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


_NAMES = st.sampled_from(
    [b"To", b"SUBJECT", b"cc", b"Date", b"References", b"List-Unsubscribe", b"X-Other", b"Received", b"message-id"]
)
_WORD = st.binary(min_size=1, max_size=20).map(lambda b: bytes(c for c in b if c not in b"\r\n\0\x0b\x0c") or b"x")
_BLANK = st.sampled_from([b" ", b"\t", b"  ", b"\r\n ", b"\r\n\t ", b" \r\n\t"])
_VALUE = st.lists(st.tuples(_BLANK, _WORD), min_size=1, max_size=6).map(
    lambda parts: b"".join(blank + word for blank, word in parts)
)
_FIELD = st.builds(lambda name, value: name + b":" + value, _NAMES, _VALUE)
_LINE = st.sampled_from([b"", b" ", b"\t text ", b".", b"..x", b"line  of\ttext", "Grüße".encode(), b"x" * 990])


@settings(max_examples=150, deadline=None)
@given(st.lists(_FIELD, max_size=8), st.lists(_LINE, max_size=12), st.booleans())
def test_dkimpy_agrees_on_any_header_and_body(fields: list[bytes], lines: list[bytes], ended: bool) -> None:
    header = b"From: ada@example.org\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"
    body = b"\r\n".join(lines) + (b"\r\n" if ended else b"")
    assert verified(signed(header, body))


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\x0b", b"\x0c", b"a", b"b"])).map(b"".join))
def test_relaxed_changes_blanks_only(value: bytes) -> None:
    assert re.sub(rb"[ \t\r\n]", b"", relaxed(value)) == re.sub(rb"[ \t\r\n]", b"", value)
    assert b"  " not in relaxed(value)


def test_the_body_hash_tag_is_the_hash_of_the_door() -> None:
    tags = signed()[: signed().index(b"From:")]
    assert re.search(rb"bh=([^;]+);", tags)[1] == base64.b64encode(body_sha256(BODY))  # type: ignore[index]
