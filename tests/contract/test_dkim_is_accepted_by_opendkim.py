"""A second foreign verifier: Debian's OpenDKIM, with the key in a file instead of DNS."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from depesche.analytics.directory.dkim_keys import new_dkim_key, record_name, record_text
from depesche.schemas.canonical import body_sha256
from depesche.streams.mail.dkim import Signer

OPENDKIM = shutil.which("opendkim", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(OPENDKIM is None, reason="OpenDKIM is not here: apt-get install opendkim")

MESSAGES = {
    "plain": (b"From: ada@example.org\r\nTo: bob@example.net\r\nSubject: Hi\r\n\r\n", b"Hello\r\n"),
    "empty body": (b"From: ada@example.org\r\nSubject: Hi\r\n\r\n", b""),
    "blank lines at the end": (b"From: ada@example.org\r\nSubject: Hi\r\n\r\n", b"Hello \r\n\r\n.\r\n\r\n\r\n"),
    "folded and repeated": (
        b"Received: from a\r\n by b\r\nFROM:\t Ada\r\n\t<ada@example.org>\r\nReferences: <1@a>\r\nReferences: <2@a>\r\n"
        b"Subject: a  long\r\n subject \t with blanks \r\nList-Unsubscribe: <https://example.org/u>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n",
        b"text\r\n",
    ),
    "eight bit": ("From: Jürgen <j@example.org>\r\nSubject: Grüße\r\n\r\n".encode(), "Grüße\r\n".encode()),
}


def _judgement(directory: Path, message: bytes, record: str) -> str:
    (directory / "mail.eml").write_bytes(message)
    (directory / "keys").write_text(f"{record_name('s1', 'example.org')} {record}\n")
    (directory / "conf").write_text(f"Mode v\nSyslog no\nTestPublicKeys {directory}/keys\n")
    command = [OPENDKIM or "", "-x", str(directory / "conf"), "-t", str(directory / "mail.eml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
@pytest.mark.parametrize("name", MESSAGES)
def test_opendkim_accepts_what_we_sign_and_refuses_what_was_changed(name: str, algorithm: str, tmp_path: Path) -> None:
    key = new_dkim_key(algorithm)  # type: ignore[arg-type]
    header, body = MESSAGES[name]
    signature = Signer("s1", "example.org", key.private_key).sign(header, body_sha256(body), 1763800000)
    record = record_text(algorithm, key.public_key)
    assert "verification (s=s1, d=example.org" in (found := _judgement(tmp_path, signature + header + body, record))
    assert "succeeded" in found
    assert "succeeded" not in _judgement(tmp_path, signature + header + b"changed" + body, record)
    assert "succeeded" not in _judgement(tmp_path, signature + b"From: eve@evil.example\r\n" + header + body, record)
