"""MTA-STS policies of recipients' domains (RFC 8461): fetched by HTTPS, kept on disk, and held as long as they say.

A policy that was once seen holds until its ``max_age`` is over, whatever DNS and the policy's host say meanwhile: an attacker who
can suppress both must not be able to switch it off (section 3.3). So what is kept survives our restarts and their outages, and
is replaced only by a newer policy that came by HTTPS from the right host.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import TLSSettings
from depesche.streams.mail.sts import StsPolicy, parse_policy, record_id
from depesche.streams.wire.dns import Resolver
from depesche.streams.wire.sts_shelf import KeptPolicy, StsShelf

_LARGEST_BYTES = 64 * 1024
_MOST_ADDRESSES = 3
_REFRESH_SECONDS = 86_400.0
"""A kept policy is fetched again after a day at the latest, or half of its age, even if its version has not changed."""
_AGAIN_SECONDS = 300.0
"""A policy that could not be had is not asked for again so soon (RFC 8461 3.3)."""
_MOST_FAILURES = 10_000


@dataclass(frozen=True, slots=True)
class StsFinding:
    """What is known of a domain's policy.

    Attributes:
        policy: the policy in force; None: there is none.
        problem: result type of RFC 8460 4.3.2.2 when a newer policy is announced and could not be had.
        reason: the problem in a few words.
        id: version of the policy in force.
        fetched_at, expires_at: when it was fetched and until when it holds, milliseconds since 1970 UTC; 0: there is none.
        fetched: whether it was fetched just now, and not taken from what is kept.
    """

    policy: StsPolicy | None = None
    problem: str = ""
    reason: str = ""
    id: str = ""
    fetched_at: int = 0
    expires_at: int = 0
    fetched: bool = False


class _PolicyFault(Exception):
    """A policy could not be had; ``result`` is the result type."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class StsPolicies:
    """Finds policies. One per process; several processes may share the shelf."""

    def __init__(
        self,
        settings: TLSSettings,
        resolver: Resolver,
        shelf: StsShelf,
        clock: Clock = now_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to find.

        Args:
            settings: port, time-out, authorities.
            resolver: asks for records and addresses.
            shelf: where policies are kept.
            clock: milliseconds since 1970 UTC.
            monotonic: seconds, for what is remembered of failures.
        """
        self._settings = settings
        self._resolver = resolver
        self._shelf = shelf
        self._clock = clock
        self._monotonic = monotonic
        self._failed: dict[str, tuple[float, str, _PolicyFault]] = {}
        self._context: ssl.SSLContext | None = None

    async def find(self, domain: str) -> StsFinding:
        """The policy of ``domain`` (an A-label in lower case); never raises for what its hosts say."""
        kept = self._kept(domain)
        texts = await self._resolver.texts(f"_mta-sts.{domain}")
        announced = record_id(texts or ())
        if announced is None or (kept is not None and kept.id == announced and not self._stale(kept)):
            return _finding(kept)
        failed = self._failed.get(domain)
        if failed is not None and failed[0] > self._monotonic() and failed[1] == announced:
            return _finding(kept, failed[2])
        try:
            text = await self._fetched(domain)
            fresh = KeptPolicy(domain, announced, self._clock(), text, _parsed(text))
        except _PolicyFault as fault:
            self._remember_failure(domain, announced, fault)
            return _finding(kept, fault)
        self._failed.pop(domain, None)
        await asyncio.to_thread(self._shelf.put, fresh)
        return _finding(fresh, fetched=True)

    def _kept(self, domain: str) -> KeptPolicy | None:
        kept = self._shelf.get(domain)
        return kept if kept is not None and kept.expires_at > self._clock() else None

    def _stale(self, kept: KeptPolicy) -> bool:
        age = (self._clock() - kept.fetched_at) / 1000
        return age > min(_REFRESH_SECONDS, kept.policy.max_age / 2)

    def _remember_failure(self, domain: str, announced: str, fault: _PolicyFault) -> None:
        if len(self._failed) >= _MOST_FAILURES:
            self._failed.clear()
        self._failed[domain] = (self._monotonic() + _AGAIN_SECONDS, announced, fault)

    # Fetching.

    async def _fetched(self, domain: str) -> str:
        host = f"mta-sts.{domain}"
        addresses = await self._resolver.addresses(host)
        if not addresses:
            raise _PolicyFault("sts-policy-fetch-error", "the policy host has no address that may be connected to")
        fault = _PolicyFault("sts-policy-fetch-error", "no answer in time")
        try:
            async with asyncio.timeout(self._settings.sts_seconds):
                for address in addresses[:_MOST_ADDRESSES]:
                    try:
                        return await self._read(host, address)
                    except httpx.HTTPError as error:
                        fault = _in_words(error)
        except TimeoutError:
            pass
        raise fault

    async def _read(self, host: str, address: str) -> str:
        """Read the text from one address. The name is in the certificate; the address is the one that passed the filter."""
        place = f"[{address}]" if ":" in address else address
        url = f"https://{place}:{self._settings.sts_port}/.well-known/mta-sts.txt"
        if self._context is None:
            self._context = authorities(self._settings)
        # No proxy, no redirect, no cookie: the policy host itself says it, or nobody does (RFC 8461 3.3).
        transport = httpx.AsyncHTTPTransport(verify=self._context, trust_env=False)
        headers = {"Host": host, "Accept-Encoding": "identity", "User-Agent": "depesche"}
        async with httpx.AsyncClient(transport=transport, timeout=self._settings.sts_seconds) as client:
            request = client.build_request("GET", url, headers=headers, extensions={"sni_hostname": host})
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                return await _text_of(response)
            finally:
                await response.aclose()


async def _text_of(response: httpx.Response) -> str:
    if response.status_code != 200:
        raise _PolicyFault("sts-policy-fetch-error", f"the policy host answers {response.status_code}")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/plain":
        raise _PolicyFault("sts-policy-fetch-error", "the policy is not text/plain")
    content = b""
    async for part in response.aiter_raw():
        content += part
        if len(content) > _LARGEST_BYTES:
            raise _PolicyFault("sts-policy-invalid", "the policy is too long")
    return content.decode("utf-8", "replace")


def _parsed(text: str) -> StsPolicy:
    try:
        return parse_policy(text)
    except ValueError as fault:
        raise _PolicyFault("sts-policy-invalid", str(fault)) from fault


def _in_words(error: httpx.HTTPError) -> _PolicyFault:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _PolicyFault("sts-webpki-invalid", f"the policy host's certificate: {cause.verify_message}")
        cause = cause.__cause__ or cause.__context__
    return _PolicyFault("sts-policy-fetch-error", f"the policy host cannot be read ({type(error).__name__})")


def _finding(kept: KeptPolicy | None, fault: _PolicyFault | None = None, *, fetched: bool = False) -> StsFinding:
    problem, reason = (fault.result, str(fault)) if fault is not None else ("", "")
    if kept is None:
        return StsFinding(None, problem, reason)
    return StsFinding(kept.policy, problem, reason, kept.id, kept.fetched_at, kept.expires_at, fetched)


def authorities(settings: TLSSettings) -> ssl.SSLContext:
    """A client's context, TLS 1.2 or newer, for hosts that must prove their name by a known authority.

    Raises:
        OSError: the file of the authorities cannot be read.
    """
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
