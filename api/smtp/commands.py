"""The arguments of MAIL and RCPT (RFC 5321 4.1.1.2, 4.1.1.3), parsed in one match."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# The classes inside and outside of quotes do not overlap, so the pattern cannot be made to search long.
_PATH = re.compile(r'(?P<keyword>[A-Za-z]+): ?<(?P<path>(?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>(?: +(?P<parameters>.*))?\Z')
_PARAMETER = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~]+))?\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+\Z")


class SMTPRefusal(Exception):
    """A reply that refuses a command; ``enhanced`` is of the same class as ``code`` (RFC 3463 2)."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.enhanced = enhanced
        self.text = text


@dataclass(frozen=True, slots=True)
class PathCommand:
    """What follows MAIL or RCPT: the path without its angle brackets, and parameters with upper-case names."""

    path: str
    parameters: Mapping[str, str]


def path_command(argument: str | None, keyword: str) -> PathCommand:
    """The argument of MAIL (keyword FROM) or RCPT (keyword TO).

    Raises:
        SMTPRefusal: 501 5.5.4, not of the form ``KEYWORD:<path> NAME=VALUE ...``.
    """
    match = _PATH.match(argument or "")
    if match is None or match["keyword"].upper() != keyword:
        raise SMTPRefusal(501, "5.5.4", f"Syntax: {'MAIL' if keyword == 'FROM' else 'RCPT'} {keyword}:<address>")
    parameters: dict[str, str] = {}
    for text in (match["parameters"] or "").split():
        found = _PARAMETER.match(text)
        if found is None or found["name"].upper() in parameters:
            raise SMTPRefusal(501, "5.5.4", "A parameter is malformed or given twice")
        parameters[found["name"].upper()] = found["value"] or ""
    return PathCommand(match["path"], parameters)


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL FROM announces. ``size`` is in octets, 0 when not given."""

    size: int
    smtputf8: bool


def mail_parameters(parameters: Mapping[str, str], max_size: int) -> MailParameters:
    """The parameters of MAIL that we advertise: SIZE, BODY, SMTPUTF8 and AUTH (which says nothing we use, RFC 4954 5).

    Raises:
        SMTPRefusal: 552 5.3.4 too large, 501 5.5.4 bad value, 555 5.5.4 not one of ours.
    """
    size, smtputf8 = 0, False
    for name, value in parameters.items():
        if name == "SIZE":
            if not value.isascii() or not value.isdigit() or len(value) > 20:
                raise SMTPRefusal(501, "5.5.4", "SIZE must be a number")
            size = int(value)
        elif name == "BODY":
            if value.upper() not in ("7BIT", "8BITMIME"):
                raise SMTPRefusal(501, "5.5.4", "BODY must be 7BIT or 8BITMIME")
        elif name == "SMTPUTF8":
            if value:
                raise SMTPRefusal(501, "5.5.4", "SMTPUTF8 takes no value")
            smtputf8 = True
        elif name != "AUTH":
            raise SMTPRefusal(555, "5.5.4", "A parameter is not recognised")
        elif not _XTEXT.match(value):
            raise SMTPRefusal(501, "5.5.4", "AUTH must be an address as xtext or <>")
    if size > max_size:
        raise SMTPRefusal(552, "5.3.4", f"The message is larger than {max_size} bytes")
    return MailParameters(size, smtputf8)
