"""One mail for each place where the test virus may hide; each engine alone must find it in every one of them."""

import base64
import io
import quopri
import random
import zipfile

from depesche.infra.local.eicar import eicar

_FROM = b"From: ada@example.org\r\nMIME-Version: 1.0\r\n"


def with_attachment(content: bytes, encoding: bytes = b"base64") -> bytes:
    """A mail that carries ``content``."""
    encoded = {
        b"base64": base64.encodebytes(content),
        b"quoted-printable": quopri.encodestring(content) + b"\n",
        b"binary": content + b"\n",
    }[encoding]
    return (
        _FROM + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + encoded.replace(b"\n", b"\r\n") + b"--b--\r\n"
    )


def with_attachments(contents: list[bytes]) -> bytes:
    """A mail that carries each of ``contents``."""
    part = b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    encoded = [part + base64.encodebytes(content).replace(b"\n", b"\r\n") for content in contents]
    return _FROM + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(encoded) + b"--b--\r\n"


def forwarded(message: bytes) -> bytes:
    """A mail that carries another mail."""
    return (
        _FROM + b"Content-Type: multipart/mixed; boundary=outer\r\n\r\n"
        b"--outer\r\nContent-Type: message/rfc822\r\n\r\n" + message + b"\r\n--outer--\r\n"
    )


def zipped(content: bytes, beside: bytes = b"") -> bytes:
    """An archive with ``content`` in it, and ``beside`` in front of it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        if beside:
            opened.writestr("photo.raw", beside)
        opened.writestr("invoice.com", content)
    return archive.getvalue()


VIRUS = eicar()
NOISE = random.Random(1).randbytes(100_000)
"""What no archive can make smaller."""
INFECTED = {
    "in the body": b"From: ada@example.org\r\n\r\n" + VIRUS + b"\r\n",
    "in base64": with_attachment(VIRUS),
    "in quoted-printable": with_attachment(VIRUS, b"quoted-printable"),
    "as it is": with_attachment(VIRUS, b"binary"),
    "in a nested message": forwarded(with_attachment(VIRUS)),
    "in a message in a message": forwarded(forwarded(with_attachment(VIRUS))),
    "in an archive": with_attachment(zipped(VIRUS)),
    "at the end of a large attachment": with_attachment(NOISE + VIRUS),
    "in a large archive": with_attachment(zipped(VIRUS, NOISE)),
    "in a large archive in a nested message": forwarded(with_attachment(zipped(VIRUS, NOISE))),
}
