"""Replies as RFC 2034 and RFC 3463 want them: every one with an enhanced status code of the right class."""

from __future__ import annotations

import re

from depesche.schemas.errors import DepescheError

_ENHANCED = re.compile(r"([245])\d\d \1\.\d{1,3}\.\d{1,3}(?: |\Z)")
_DEFAULTS = {
    "211": "2.0.0",
    "214": "2.0.0",
    "221": "2.0.0",
    "250": "2.0.0",
    "252": "2.0.0",
    "421": "4.3.0",
    "451": "4.3.0",
    "452": "4.3.1",
    "500": "5.5.2",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "504": "5.5.4",
    "550": "5.7.1",
    "552": "5.3.4",
    "554": "5.5.0",
    "555": "5.5.4",
}


def enhanced(reply: str) -> str:
    """``reply`` with an enhanced status code, if it lacks one and its kind has one.

    The greeting, the answer to EHLO and intermediate replies (3yz) have none (RFC 2034 4).
    """
    code = _DEFAULTS.get(reply[:3])
    if code is None or reply[3:4] != " " or _ENHANCED.match(reply):
        return reply
    return f"{reply[:3]} {code} {reply[4:]}"


def of_error(fault: DepescheError) -> str:
    """The reply for one of our errors: its code and its public text in one line."""
    return f"{fault.reply} {fault.enhanced} {' '.join(fault.public.split())}"
