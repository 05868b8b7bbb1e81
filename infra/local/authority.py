"""A certificate authority of our own, for far sides whose certificates must hold, or fail in one chosen way.

It has a root and an intermediate; whatever it issues comes with the chain that leads to the root, as a mail host shows it. The
root is what a client may be told to trust (``tls.ca_file``) or what a TLSA record names.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from depesche.infra.local.certificate import Certificate, Validity
from depesche.infra.local.part import private_folder

_DAY = datetime.timedelta(days=1)
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key: as PEM files (`files.certificate` holds the chain), and the chain in DER, its own first."""

    files: Certificate
    chain: tuple[bytes, ...]


class Authority:
    """Root and intermediate, made anew with each object; `root` is the PEM file of the root."""

    def __init__(self, folder: Path, name: str = "Depesche test authority") -> None:
        self._folder = private_folder(folder, 0o755)
        self._root_key, self._middle_key = _key(), _key()
        self._root = _signed(_subject(f"{name}, root"), self._root_key, None, self._root_key, Validity(-400, 800))
        self._middle = _signed(_subject(name), self._middle_key, self._root, self._root_key, Validity(-400, 400))
        self.root = folder / "root.crt"
        self.root.write_bytes(self._root.public_bytes(_PEM))
        self.root.chmod(0o644)

    @property
    def certificates(self) -> tuple[x509.Certificate, x509.Certificate]:
        """Return the root and the intermediate."""
        return self._root, self._middle

    def issue(self, name: str, names: Sequence[str], validity: Validity | None = None) -> Issued:
        """Return a certificate for `names`, as `<name>.crt` and `<name>.key`, with the intermediate and the root behind it."""
        key = _key()
        leaf = _signed(_subject(names[0]), key, self._middle, self._middle_key, validity or Validity(), names)
        chain = (leaf, self._middle, self._root)
        return _written(self._folder, name, key, chain)

    def self_signed(self, name: str, names: Sequence[str]) -> Issued:
        """Return a certificate for `names` that nobody vouches for."""
        key = _key()
        return _written(
            self._folder, name, key, (_signed(_subject(names[0]), key, None, key, Validity(), names, ends=True),)
        )


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    validity: Validity,
    names: Sequence[str] = (),
    *,
    ends: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    authority = not names and not ends
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + validity.from_days * _DAY)
        .not_valid_after(now + validity.to_days * _DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _written(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate]) -> Issued:
    files = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    files.key.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    files.key.chmod(0o600)
    files.certificate.write_bytes(b"".join(certificate.public_bytes(_PEM) for certificate in chain))
    files.certificate.chmod(0o644)
    der = tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in chain)
    return Issued(files, der)
