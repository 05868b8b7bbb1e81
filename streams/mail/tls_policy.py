"""Which TLS policy holds for a mail host: what the sender asks, what the receiver's domain asks, and which of them goes first.

The receiver's word is kept whatever the sender asks, and the stricter of the two counts. DANE goes before MTA-STS (RFC 8461 2),
host by host: one without TLSA records beside one with them is reached by the domain's MTA-STS policy, or as the sender asks.

| name | asked by | means |
|---|---|---|
| ``may`` | nobody | encrypted when it works (RFC 7435) |
| ``must`` | the sender domain | encrypted, or not at all; the certificate is not looked at |
| ``sts-testing`` | MTA-STS | as the sender asks, but what would have failed is counted |
| ``sts-enforce`` | MTA-STS | a host that is in the policy, with a certificate for its name that a public authority gave |
| ``dane`` | TLSA records | a certificate that the records vouch for |
| ``dane-unusable`` | TLSA records that nobody can use | encrypted, or not at all |
| ``dane-failed`` | a signed zone whose TLSA records cannot be had | not this host |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from depesche.streams.mail.dane import Dane, TLSARecord
from depesche.streams.mail.sts import StsPolicy

EXPLANATION: dict[str, str] = {
    "may": "encrypted when it works, whatever the certificate; else in plain text",
    "must": "encrypted, whatever the certificate, or not at all: the sender asks for it",
    "sts-testing": "as the sender asks; a certificate that does not hold, or a host that is not named, is only counted",
    "sts-enforce": "encrypted, with a certificate for this name by a known authority, or not at all",
    "dane": "encrypted, with a certificate that the TLSA records vouch for, or not at all",
    "dane-unusable": "encrypted, whatever the certificate, or not at all: there are TLSA records, but none that can be used",
}
"""What each policy under which a host is used means, for people."""

Asked = Literal["may", "must"]
PolicyType = Literal["tlsa", "sts", "no-policy-found"]
"""How RFC 8460 4.4 calls what was applied."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What is asked of TLS towards one host.

    Attributes:
        name: which policy, see the module.
        encrypt: whether nothing may be said in plain text.
        authority: whether the certificate must come from a known authority and be for ``server_name``.
        records: TLSA records of which one must vouch for the certificate.
        names: names that a certificate under a TLSA authority may have.
        server_name: name to ask the host for (SNI).
        lenient: whether a failure of ``authority`` is only counted.
        refusal: why this host must not be used at all; empty when it may.
        result: the result type (RFC 8460 4.3) that holds whatever the connection does; empty: the connection tells.
        kind: how reports call the policy.
    """

    name: str
    server_name: str
    encrypt: bool = False
    authority: bool = False
    records: tuple[TLSARecord, ...] = ()
    names: tuple[str, ...] = ()
    lenient: bool = False
    refusal: str = ""
    result: str = ""
    kind: PolicyType = "no-policy-found"


def required(host: str, domain: str, asked: Asked, dane: Dane | None, sts: StsPolicy | None) -> Requirement:
    """What is asked of TLS towards ``host``, which takes mail for ``domain``.

    Args:
        host: name of the mail host.
        domain: domain of the recipient.
        asked: what the sender domain asks.
        dane: what DNSSEC says about the host; None: nothing.
        sts: the domain's MTA-STS policy; None: it has none.
    """
    must = asked == "must"
    if dane is not None and dane.failed:
        text = "the TLSA records of the host cannot be had, although its zone is signed"
        return Requirement("dane-failed", host, True, refusal=text, result="dnssec-invalid", kind="tlsa")
    if dane is not None and dane.usable:
        names = tuple(dict.fromkeys((dane.base, host, domain)))
        return Requirement("dane", dane.base, True, records=dane.usable, names=names, kind="tlsa")
    if sts is not None and sts.mode == "enforce":
        refusal = "" if sts.allows(host) else "the domain's MTA-STS policy does not name the host"
        result = "validation-failure" if refusal else ""
        return Requirement("sts-enforce", host, True, True, refusal=refusal, result=result, kind="sts")
    if dane is not None:
        return Requirement("dane-unusable", dane.base, True, result="tlsa-invalid", kind="tlsa")
    if sts is not None and sts.mode == "testing":
        named = sts.allows(host)
        result = "" if named else "validation-failure"
        return Requirement("sts-testing", host, must, named, lenient=True, result=result, kind="sts")
    return Requirement("must" if must else "may", host, must)
