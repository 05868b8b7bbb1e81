"""Self-made certificates, so that every door and every far side on this machine speaks TLS from the first start.

They prove nothing about who is there; they make STARTTLS and TLS real. Whoever has real certificates puts the two files in
place, and they are left alone.
"""

import datetime
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.part import private_folder

MAKER = "Depesche, self-made"
"""The organisation name by which we recognise our own certificates: only those are ever renewed."""

_DAY = datetime.timedelta(days=1)
_RENEW_BEFORE = 7 * _DAY


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key as PEM files; the key file is readable by its owner only."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return a server-side context (TLS 1.2 and later) that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, in days from now; both negative makes one that has expired."""

    from_days: int = -1
    to_days: int = 825


def ensure_certificate(
    folder: Path,
    name: str,
    names: Sequence[str],
    *,
    kind: Literal["ec", "rsa"] = "ec",
    validity: Validity | None = None,
) -> Certificate:
    """Return `<name>.crt` and `<name>.key` in `folder`, made on the first call.

    `names` are DNS names or addresses for the subjectAltName. A certificate of ours is made again when it ends within a
    week or lacks a name; any other is returned as it is. Raises LocalFault when only one of the two files is there, or the
    certificate cannot be read.
    """
    files = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    present = [path for path in (files.certificate, files.key) if path.exists()]
    if len(present) == 1:
        raise LocalFault(
            f"Of {files.certificate} and {files.key} only {present[0].name} is there.",
            "Put the other file beside it, or remove it to have both made.",
        )
    if not present or _needs_renewal(files.certificate, names, validity is None):
        private_folder(folder)
        _make(files, names, kind, validity or Validity())
    return files


def _needs_renewal(path: Path, names: Sequence[str], ends: bool) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise LocalFault(f"{path} is not a PEM certificate.", "Replace it, or remove it and its key.") from error
    makers = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if [maker.value for maker in makers] != [MAKER]:
        return False
    if ends and certificate.not_valid_after_utc - _RENEW_BEFORE < _now():
        return True
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return not set(_general_names(names)) <= set(alternatives)


def _make(files: Certificate, names: Sequence[str], kind: Literal["ec", "rsa"], validity: Validity) -> None:
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, MAKER), x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() + validity.from_days * _DAY)
        .not_valid_after(_now() + validity.to_days * _DAY)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # The key goes first: a certificate without its key is the half-written state that the next start refuses.
    _write(files.key, pem, 0o600)
    _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _write(path: Path, content: bytes, mode: int) -> None:
    draft = path.with_suffix(path.suffix + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
    draft.replace(path)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
