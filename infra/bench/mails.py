"""The mails of the benchmark: real MIME, every one and its attachment different, so that no cache can answer for a scan."""

from __future__ import annotations

import base64
import random

WORDS = (
    "invoice order delivery parcel account statement customer service terms amount total shipping address thank you for "
    "your purchase please find attached the document with all details of this transaction we will inform you soon"
)
SIZES = {"10KB": 10_000, "200KB": 200_000}


def bodies(size: int, count: int, seed: int = 7) -> list[bytes]:
    """``count`` MIME bodies of about ``size`` bytes: text and HTML, and above 50 KB a binary attachment in base64."""
    chance = random.Random(seed)  # noqa: S311 - the same mails in every run, nothing secret
    return [_body(size, chance) for _ in range(count)]


def _body(size: int, chance: random.Random) -> bytes:
    attached = size - 8_000 if size > 50_000 else 0
    text = _text((size - attached) // 3, chance)
    html = "<html><body>" + "".join(f"<p>{line}</p>\r\n" for line in text.split("\r\n")) + "</body></html>"
    html = html[: size - attached - len(text)]
    parts = [("text/plain; charset=utf-8", "7bit", text), ("text/html; charset=utf-8", "7bit", html)]
    if attached:
        content = _document(0) + chance.randbytes(attached * 3 // 4 * 76 // 78 - len(_document(0)))
        blob = base64.encodebytes(content).replace(b"\n", b"\r\n").decode()
        parts.append(("application/pdf; name=document.pdf", "base64", blob))
    inner = "".join(
        f"--b\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {how}\r\n\r\n{body}\r\n"
        for kind, how, body in parts
    )
    return (inner + "--b--\r\n").encode()


def _document(number: int) -> bytes:
    """How an attachment begins: the number that makes it different, as long as one line of Base64 holds."""
    return f"Document {number}".ljust(57).encode()


def _text(size: int, chance: random.Random) -> str:
    words = WORDS.split()
    lines: list[str] = []
    length = 0
    while length < size:
        line = " ".join(chance.choices(words, k=10))
        lines.append(line)
        length += len(line) + 2
    return "\r\n".join(lines)


def message(number: int, body: bytes, sender: str, recipient: str) -> bytes:
    """The mail number ``number``: header and attachment differ from every other's; the sink reads the header."""
    header = (
        f"From: Shop <{sender}>\r\nTo: <{recipient}>\r\nSubject: Order {number}\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n"
        f"Message-ID: <bench-{number}@{sender.partition('@')[2]}>\r\nX-Bench: {number}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    )
    first = base64.b64encode(_document(number))
    return header.encode() + body.replace(base64.b64encode(_document(0)), first, 1)
