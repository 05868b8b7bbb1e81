"""Self-made certificates: made once, kept, renewed only when they are ours and no longer hold."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from depesche.infra.local.certificate import Certificate, Validity, ensure_certificate
from depesche.infra.local.fault import LocalFault

NAMES = ["mx.sandbox.test", "127.0.0.2"]


def loaded(files: Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def test_a_certificate_is_made_once_with_its_names_and_a_private_key(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path / "tls", "door", NAMES)
    content = made.certificate.read_bytes()
    assert ensure_certificate(tmp_path / "tls", "door", NAMES[:1]).certificate.read_bytes() == content
    names = loaded(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.sandbox.test"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.2"]
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert isinstance(load_pem_private_key(made.key.read_bytes(), None), ec.EllipticCurvePrivateKey)
    assert made.server_context().minimum_version == ssl.TLSVersion.TLSv1_2


def test_an_rsa_key_has_2048_bits(tmp_path: Path) -> None:
    key = load_pem_private_key(ensure_certificate(tmp_path, "door", NAMES, kind="rsa").key.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048


def test_ours_is_made_again_when_a_name_is_missing_or_its_end_is_near(tmp_path: Path) -> None:
    first = loaded(ensure_certificate(tmp_path, "door", NAMES)).serial_number
    assert loaded(ensure_certificate(tmp_path, "door", [*NAMES, "new.test"])).serial_number != first
    ensure_certificate(tmp_path, "old", NAMES, validity=Validity(-100, 3))
    old = loaded(ensure_certificate(tmp_path, "old", NAMES, validity=Validity(-100, 3))).serial_number
    assert loaded(ensure_certificate(tmp_path, "old", NAMES)).serial_number != old


def write_foreign(folder: Path, name: str) -> bytes:
    """Write an expired pair as a certificate authority would have issued it, and return the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example")])
    day = datetime.timedelta(days=1)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    ended = datetime.datetime.now(datetime.UTC) - 5 * day
    signed = made.not_valid_before(ended - day).not_valid_after(ended).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(pem)
    (folder / f"{name}.crt").write_bytes(signed.public_bytes(Encoding.PEM))
    return signed.public_bytes(Encoding.PEM)


def test_a_certificate_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    theirs = write_foreign(tmp_path, "door")
    assert ensure_certificate(tmp_path, "door", NAMES).certificate.read_bytes() == theirs


@pytest.mark.parametrize("missing", ["door.crt", "door.key"])
def test_half_of_a_pair_is_refused_with_the_remedy(tmp_path: Path, missing: str) -> None:
    ensure_certificate(tmp_path, "door", NAMES)
    (tmp_path / missing).unlink()
    with pytest.raises(LocalFault, match=r"only door\.(crt|key) is there"):
        ensure_certificate(tmp_path, "door", NAMES)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    ensure_certificate(tmp_path, "door", NAMES)
    (tmp_path / "door.crt").write_text("not PEM")
    with pytest.raises(LocalFault, match="not a PEM certificate"):
        ensure_certificate(tmp_path, "door", NAMES)
