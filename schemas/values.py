"""Values: parsed once at the edge, valid ever after."""

from __future__ import annotations

import re
from dataclasses import dataclass

import idna

from depesche.schemas.errors import InvalidRequestError

MAX_LOCAL, MAX_DOMAIN, MAX_PATH = 64, 255, 254
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*\Z")
_QUOTED = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"\Z')
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_FRIENDLY = re.compile(r"\s*(?P<name>.*?)\s*<(?P<address>[^<>]*)>\s*\Z", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Address:
    """A mail address: local part as written, domain as lower-case A-label (RFC 5321 2.3.11, 4.1.2; RFC 6531)."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the local part has characters that only SMTPUTF8 can carry."""
        return not self.local.isascii()

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``text``, which holds nothing else.

        Raises:
            InvalidRequestError: not a mailbox by RFC 5321 4.1.2, too long (4.5.3.1), or its domain has no dot.
        """
        local, at, domain = text.rpartition("@")
        if not at or not local or has_control(text):
            raise InvalidRequestError("no address", public="The address is not valid")
        if len(local.encode()) > MAX_LOCAL or len(text.encode()) > MAX_PATH:
            raise InvalidRequestError("address too long", public="The address is too long")
        if not (_DOT_STRING.match(local) or _QUOTED.match(local)):
            raise InvalidRequestError("local part", public="The part before the @ is not valid")
        return cls(local, domain_name(domain))


def domain_name(text: str) -> str:
    """The domain in ``text`` as lower-case A-label.

    Raises:
        InvalidRequestError: not a host name with at least two labels.
    """
    try:
        name = text.lower() if text.isascii() else idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as fault:
        raise InvalidRequestError("domain", public="The domain is not valid") from fault
    labels = name.split(".")
    if (
        len(name) > MAX_DOMAIN
        or len(labels) < 2
        or not all(_LABEL.match(label) for label in labels)
        or labels[-1].isdigit()
    ):
        raise InvalidRequestError("domain", public="The domain is not valid")
    return name


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address with the name shown beside it, as in ``Ada Example<ada@example.org>`` (wire note 2.4)."""

    name: str
    address: Address

    @classmethod
    def parse(cls, text: str) -> Mailbox:
        """The mailbox in ``text``: a bare address or a name and an address in angle brackets.

        Raises:
            InvalidRequestError: see ``Address.parse``; also when the name holds a control character.
        """
        if has_control(text):
            raise InvalidRequestError("control character", public="The address holds a control character")
        match = _FRIENDLY.match(text)
        if match is None:
            return cls("", Address.parse(text.strip()))
        return cls(match["name"].strip('"').strip(), Address.parse(match["address"].strip()))


def has_control(text: str) -> bool:
    """Whether ``text`` holds a character that has no place in a header: C0, DEL, U+2028, U+2029 or a lone surrogate."""
    return bool(_CONTROL.search(text)) or any("\ud800" <= c <= "\udfff" for c in text)
