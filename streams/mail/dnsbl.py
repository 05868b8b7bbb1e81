"""Blocklists in DNS by RFC 5782: what to ask, what an answer means, and whether a list may be believed (mission D9).

A list says that an address is on it by an address record inside 127.0.0.0/8; nothing else is a listing. Some lists answer
127.255.255.x to say that they do not serve the one who asks; read as a listing, that would be a false alarm about every address.
And before a list is believed at all it must list its test entry and must not list 127.0.0.1 (section 5): a list that was shut
down stops answering, or lists the whole world.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Status = Literal["found", "none", "failed"]
State = Literal["listed", "clear", "refused", "failed"]

#: Family to the entry that every list has, and to the one that none has (RFC 5782 section 5).
TEST_ENTRIES: Final[Mapping[int, tuple[str, str]]] = {
    4: ("127.0.0.2", "127.0.0.1"),
    6: ("::ffff:127.0.0.2", "::ffff:127.0.0.1"),
}
_LISTINGS: Final = ipaddress.ip_network("127.0.0.0/8")
_ERRORS: Final = ipaddress.ip_network("127.255.255.0/24")
_REFUSALS: Final = {
    "127.255.255.252": "the list's name is misspelt",
    "127.255.255.254": "it does not answer public resolvers",
    "127.255.255.255": "too many questions were asked",
}
_POLICY: Final = frozenset({"127.0.0.10", "127.0.0.11"})
_MOST_REASON: Final = 200
NO_TEST_ENTRY: Final = "it does not list its test entry"


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS said to a question for address records.

    Attributes:
        status: ``found``; ``none``: there is no such name, or no address; ``failed``: nobody could tell.
        addresses: the records' values.
        reason: why it failed, in a few words.
    """

    status: Status
    addresses: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means.

    Attributes:
        state: ``listed``; ``clear``; ``refused``: the list answers, but not the question; ``failed``: nobody knows.
        codes: values inside 127.0.0.0/8, of a listing.
        reason: in words; of a listing empty, or that it is one by policy.
    """

    state: State
    codes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a list may be believed about a family of addresses; ``usable`` None: it did not answer, so nobody can tell."""

    usable: bool | None
    reason: str = ""


def family(address: str) -> int:
    """4 or 6.

    Raises:
        ValueError: it is no IP address.
    """
    return ipaddress.ip_address(address).version


def plain_address(text: str) -> str:
    """An IP address in its usual form; empty when it is none."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return ""


def question(address: str, zone: str) -> str:
    """The name to ask for: octets (RFC 5782 section 2.1) or nibbles (2.4) in reverse order, then the list's zone.

    Raises:
        ValueError: it is no IP address.
    """
    found = ipaddress.ip_address(address)
    labels = str(found).split(".") if found.version == 4 else list(found.exploded.replace(":", ""))
    return ".".join([*reversed(labels), zone.strip(".")])


def judge(answer: Answer, zone: str = "") -> Verdict:
    """What ``answer`` says about the address that was asked for.

    Args:
        answer: of DNS.
        zone: the list's; Spamhaus's tell listings by policy apart.
    """
    if answer.status == "failed":
        return Verdict("failed", (), answer.reason)
    if answer.status == "none" or not answer.addresses:
        return Verdict("clear")
    values = sorted(map(ipaddress.IPv4Address, answer.addresses))
    for value in values:
        if value in _ERRORS:
            return Verdict("refused", (), f"{value}: {_REFUSALS.get(str(value), 'an error code')}")
    if not all(value in _LISTINGS for value in values):
        return Verdict("refused", (), f"it answers {values[-1]}, which is no answer of a list")
    codes = tuple(map(str, values))
    policy = "spamhaus" in zone.lower().split(".") and _POLICY.issuperset(codes)
    return Verdict("listed", codes, "by policy: nothing was seen, but no mail is expected from there" if policy else "")


def health(entry: Answer, innocent: Answer) -> Health:
    """Whether a list may be believed, by its answers for the two addresses of ``TEST_ENTRIES``.

    Args:
        entry: about the one that must be listed.
        innocent: about the one that must not be.
    """
    must, must_not = judge(entry), judge(innocent)
    if must_not.state == "listed":
        return Health(False, "it lists every address")
    for verdict in (must, must_not):
        if verdict.state == "refused":
            return Health(False, f"it does not serve us ({verdict.reason})")
    for verdict in (must, must_not):
        if verdict.state == "failed":
            return Health(None, verdict.reason)
    return Health(True) if must.state == "listed" else Health(False, NO_TEST_ENTRY)


def plain_reason(texts: tuple[str, ...]) -> str:
    """A list's own words about a listing, written by strangers: printable, on one line, bounded."""
    joined = " ".join(" ".join(texts).split())
    return "".join(char for char in joined if char.isprintable())[:_MOST_REASON]
