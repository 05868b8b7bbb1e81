"""TLS reports (RFC 8460): what is counted of each session, and the report that a receiving domain can be told. Pure.

A session is one connection on which it came to the question of TLS. It is counted for the domain whose mail opened it; sessions
are shared by domains with the same hosts and the same policy, so a report counts connections and not mails.
"""

from __future__ import annotations

import datetime
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from depesche.schemas.records import TLSCount

_NAMESPACE = uuid.UUID("6e1b8f0e-7f0b-5c55-9b0e-0d3b8a5f2b60")


@dataclass(frozen=True, slots=True)
class TLSSession:
    """What one session was, as far as reports tell sessions apart.

    Attributes:
        domain: the policy domain: the recipient's.
        kind: ``tlsa``, ``sts`` or ``no-policy-found`` (RFC 8460 4.4).
        policy: the policy in its own words, line by line; TLSA records as in a zone file.
        mx_host: the hosts that the policy names.
        result: result type of a failure (4.3); empty: a success.
        host: name of the mail host.
        remote_ip: address connected to.
        source_ip: own address.
    """

    domain: str
    kind: str
    policy: tuple[str, ...] = ()
    mx_host: tuple[str, ...] = ()
    result: str = ""
    host: str = ""
    remote_ip: str = ""
    source_ip: str = ""


def day_of(now: int) -> str:
    """The day (UTC) of a time in milliseconds since 1970, as 2026-11-27: reports cover whole days (RFC 8460 4.1)."""
    return datetime.datetime.fromtimestamp(now / 1000, datetime.UTC).date().isoformat()


def report(domain: str, day: str, counts: Iterable[TLSCount], organization: str, contact: str) -> dict[str, Any]:
    """The report of a day for a domain, as JSON values (RFC 8460 4.4).

    Args:
        domain: the policy domain.
        day: as 2026-11-27.
        counts: the day's counts of this domain.
        organization, contact: who reports.
    """
    policies: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[TLSCount]] = {}
    for count in counts:
        policies.setdefault((count.kind, count.policy, count.mx_host), []).append(count)
    return {
        "organization-name": organization,
        "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
        "contact-info": contact,
        # The same day and domain give the same id, so that a report that is sent twice is recognised.
        "report-id": str(uuid.uuid5(_NAMESPACE, f"{organization}|{domain}|{day}")),
        "policies": [
            _policy(domain, kind, text, hosts, policies[kind, text, hosts]) for kind, text, hosts in sorted(policies)
        ],
    }


def _policy(
    domain: str, kind: str, text: tuple[str, ...], hosts: tuple[str, ...], counts: list[TLSCount]
) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": kind, "policy-domain": domain}
    if text:
        policy["policy-string"] = list(text)
    if hosts:
        policy["mx-host"] = list(hosts)
    failures: Counter[tuple[str, str, str, str]] = Counter()
    successes = 0
    for count in counts:
        if count.result:
            failures[count.result, count.source_ip, count.host, count.remote_ip] += count.count
        else:
            successes += count.count
    summary = {"total-successful-session-count": successes, "total-failure-session-count": failures.total()}
    found = {"policy": policy, "summary": summary}
    return (
        {**found, "failure-details": [_failure(*key, failures[key]) for key in sorted(failures)]} if failures else found
    )


def _failure(result: str, source_ip: str, host: str, remote_ip: str, count: int) -> Mapping[str, Any]:
    details = {
        "result-type": result,
        "sending-mta-ip": source_ip,
        "receiving-mx-hostname": host,
        "receiving-ip": remote_ip,
        "failed-session-count": count,
    }
    return {key: value for key, value in details.items() if value != ""}
