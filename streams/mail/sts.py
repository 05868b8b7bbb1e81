"""MTA-STS (RFC 8461): the record that says a domain has a policy, the policy's text, and whether a host is in it. Pure.

A domain says in DNS that it has a policy and which version (``_mta-sts`` TXT, section 3.1), and by HTTPS what it is (3.2). Only
the second is proof: so nothing here is believed that was not read from a policy text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, cast

Mode = Literal["enforce", "testing", "none"]

LONGEST_SECONDS = 31_557_600
"""The largest ``max_age`` (RFC 8461 3.2)."""
_MODES = ("enforce", "testing", "none")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MOST_PATTERNS = 200


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """What a domain asks of whoever sends to it.

    Attributes:
        mode: ``enforce``: only to hosts that are in ``mx`` and prove their name; ``testing``: as always, but count what would
            have failed; ``none``: the domain has given its policy up.
        mx: host names, or patterns whose first label is an asterisk, in lower case.
        max_age: seconds for which it holds after it was fetched.
        lines: the lines of its text, for reports.
    """

    mode: Mode
    mx: tuple[str, ...]
    max_age: int
    lines: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Names what it asks: policies with the same digest ask the same."""
        return sha256("\n".join((self.mode, *sorted(self.mx))).encode()).hexdigest()[:16]

    def allows(self, host: str) -> bool:
        """Whether mail may go to ``host``: an exact name, or one label more than what follows an asterisk (RFC 8461 4.1)."""
        return any(matches(host, pattern) for pattern in self.mx)


def matches(name: str, pattern: str) -> bool:
    """Whether ``name`` is meant by ``pattern``, whose first label may be an asterisk that stands for exactly one label."""
    name, pattern = name.lower().rstrip("."), pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        first, _, rest = name.partition(".")
        return bool(first) and rest == pattern[2:]
    return name == pattern


def record_id(texts: Sequence[str]) -> str | None:
    """The version in the TXT records of ``_mta-sts.DOMAIN``; None when they do not announce exactly one policy (RFC 8461 3.1)."""
    announcing = [text for text in texts if text.split(";")[0].strip() == "v=STSv1"]
    if len(announcing) != 1:
        return None
    fields = [field.strip().partition("=") for field in announcing[0].split(";")[1:]]
    for key, _, value in fields:
        if key.strip() == "id":
            return value.strip() if _ID.fullmatch(value.strip()) else None
    return None


def parse_policy(text: str) -> StsPolicy:
    """The policy that ``text`` is (RFC 8461 3.2); unknown keys are passed over, of a repeated key the first counts.

    Raises:
        ValueError: it is none; the message says why, in a few words.
    """
    lines = tuple(line for line in re.split(r"\r?\n", text) if line.strip())
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in lines:
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon or not key:
            raise ValueError("a line is no key and value")
        if key == "mx":
            patterns.append(_pattern(value))
        else:
            fields.setdefault(key, value)
    if fields.get("version") != "STSv1":
        raise ValueError("the version is not STSv1")
    if fields.get("mode") not in _MODES:
        raise ValueError("the mode is not enforce, testing or none")
    if not re.fullmatch(r"[0-9]{1,10}", fields.get("max_age", "")):
        raise ValueError("max_age is no number of seconds")
    if not patterns and fields["mode"] != "none":
        raise ValueError("no mx is named")
    if len(patterns) > _MOST_PATTERNS:
        raise ValueError("too many mx are named")
    max_age = min(int(fields["max_age"]), LONGEST_SECONDS)
    return StsPolicy(cast(Mode, fields["mode"]), tuple(dict.fromkeys(patterns)), max_age, lines)


def _pattern(value: str) -> str:
    pattern = value.lower().rstrip(".")
    labels = pattern.removeprefix("*.").split(".")
    if len(pattern) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("an mx is no host name")
    return pattern
