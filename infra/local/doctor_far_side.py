"""What the doctor asks of everything that talks to the world: doors, scanners, name server, far side, processes."""

from __future__ import annotations

import asyncio

import dns.asyncresolver
import dns.exception
import httpx

from depesche.infra.local import clamd, last_words, plan
from depesche.infra.local.doctor import Case, Finding, fail, ok, warn
from depesche.infra.local.part import read_greeting
from depesche.infra.local.sink.listeners import MAIN
from depesche.streams.wire.yara import Yara

ANSWER_SECONDS = 5.0
_DOMAIN = "inbox.test"


async def stack(case: Case) -> list[Finding]:
    """Whether ``depesche up`` runs here, and each of its processes."""
    home = case.settings.home
    if case.owner is None:
        if case.settings.kafka.bootstrap:
            return [ok(f"No `depesche up` runs on {home}; the log is an outside one.")]
        return [warn(f"Depesche does not run on {home}, so what only runs with it was not asked.", "depesche up")]
    lame = {name: entry["state"] for name, entry in case.programs.items() if entry["state"] != "ready"}
    found = []
    for name, state in lame.items():
        words = last_words.of(home / "log" / f"{name}.log")
        sentence = f"{name} is {state}" + (f": {words}." if words else ".")
        found.append(fail(sentence, f"Look at {home / 'log' / f'{name}.log'}; it is started again by itself."))
    return found or [ok(f"Depesche runs on {home} (process {case.owner}), {len(case.programs)} programs, all ready.")]


async def doors(case: Case) -> list[Finding]:
    """All doors would take a mail now."""
    if case.owner is None:
        return []
    settings = case.settings
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as client:
            answer = await client.get(f"http://{settings.rest.host}:{settings.rest.port}/readyz")
        reasons = [
            f"{name}: {check.get('reason')}" for name, check in answer.json()["checks"].items() if not check["ok"]
        ]
    except (httpx.HTTPError, ValueError, KeyError) as fault:
        return [fail(f"The REST door does not answer ({type(fault).__name__}).", "Look at log/doors.log.")]
    found = []
    if answer.status_code != 200:
        found.append(fail(f"The REST door is not ready: {'; '.join(reasons)}.", "It recovers by itself; see log/."))
    elif reasons:
        found.append(warn(f"The REST door takes mail, but {'; '.join(reasons)}.", "Look at log/."))
    if settings.smtp.port:
        greeting = await _greeting(settings.smtp.host, settings.smtp.port)
        if not greeting.startswith("220 "):
            found.append(fail(f"The SMTP door greets with {greeting!r}.", "Look at log/doors.log."))
    found += await _return_door(case)
    if found:
        return found
    places = [settings.rest_url, f"SMTP {settings.smtp.host}:{settings.smtp.port}"]
    if settings.returns.domain and settings.returns.port:
        places.append(f"return path {settings.returns.host}:{settings.returns.port}")
    return [ok(f"The doors take mail ({', '.join(places)}).")]


async def _return_door(case: Case) -> list[Finding]:
    """What is wrong with the door of the return path, if it is to be open."""
    returns = case.settings.returns
    if not returns.domain:
        fix = "Set returns.domain to a domain whose MX leads to returns.port, and restart."
        return [warn("There is no return path, so late bounces and complaints are not noticed.", fix)]
    if not returns.port:
        return []
    greeting = await _greeting(returns.host, returns.port)
    if greeting.startswith("220 "):
        return []
    return [fail(f"The door of the return path greets with {greeting!r}.", "Look at log/doors.log.")]


async def _greeting(host: str, port: int) -> str:
    """The first line of a server; empty when there is none in time."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return (await read_greeting(host, port)).decode("utf-8", "replace").strip()
    except (OSError, TimeoutError):
        return ""


async def scanners(case: Case) -> list[Finding]:
    """Every engine in force gives verdicts."""
    scan = case.settings.scan
    found = []
    if "clamav" in scan.engines:
        found += await _clamav(case)
    if "yara" in scan.engines:
        # In this thread: its scanner must end where it was made.
        yara = Yara(scan.yara_rules)
        found.append(ok(f"The YARA rules compile ({yara.version})."))
    return found


async def _clamav(case: Case) -> list[Finding]:
    outside = case.settings.scan.clamd
    if not outside:
        if "clamd" not in plan.inspect(case.settings).names:
            without = "ClamAV is not installed; mail is scanned by YARA-X only."
            return [warn(without, "sudo apt-get install -y clamav-daemon")]
        if "clamd" not in case.parts():
            since = "ClamAV came after this Depesche was started; mail is scanned by YARA-X only."
            return [warn(since, "Start it again: depesche down, then depesche up.")]
        if case.owner is None:
            return []
    return [await _answer(case, outside)]


async def _answer(case: Case, outside: str) -> Finding:
    host, _, port = (outside or f"127.0.0.1:{case.settings.scan.clamd_port}").rpartition(":")
    if not port.isdigit():
        return ok(f"ClamAV is reached by the socket {outside}, which was not asked.")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            version = await clamd.ask(host, int(port), "VERSION")
    except (OSError, TimeoutError, EOFError) as fault:
        reason = str(fault) or type(fault).__name__
        fix = "Look at log/clamd.log; mail waits until it answers, it never passes unscanned."
        return fail(f"clamd does not answer on {host}:{port} ({reason}).", fix)
    if "/" not in version and not outside:
        fix = "sudo apt-get install -y clamav-freshclam && sudo freshclam, then restart."
        return warn(f"{version} answers, with the EICAR test signature only.", fix)
    return ok(f"{version} answers on {host}:{port}.")


async def names(case: Case) -> list[Finding]:
    """The resolvers answer; in the sandbox they know where its mail goes."""
    servers = case.settings.dns.servers
    sandbox = case.settings.sandbox.enabled
    if (sandbox and not case.sandbox_expected) or not servers:
        return []
    found = []
    for server in servers:
        resolver = dns.asyncresolver.Resolver(configure=False)
        host, _, port = server.rpartition(":") if server.count(":") == 1 else (server, "", "53")
        resolver.nameservers, resolver.port = [host], int(port)
        resolver.lifetime = ANSWER_SECONDS
        try:
            await resolver.resolve(_DOMAIN if sandbox else ".", "MX" if sandbox else "NS")
        except dns.exception.DNSException as fault:
            found.append(
                fail(f"The resolver {server} does not answer: {fault}.", "See dns.servers and log/sandbox.log.")
            )
    return found or [ok(f"The {'sandbox’s name server' if sandbox else 'resolver'} answers ({', '.join(servers)}).")]


async def far_side(case: Case) -> list[Finding]:
    """The sandbox's mailbox and Postfix greet."""
    if not case.sandbox_expected:
        return []
    settings = case.settings
    postfix = "postfix" in case.parts()
    hosts = {"mailbox": MAIN.address, **({"Postfix": settings.sandbox.postfix_host} if postfix else {})}
    found = []
    for name, host in hosts.items():
        greeting = await _greeting(host, settings.sandbox.smtp_port)
        if not greeting.startswith("220 "):
            fix = f"Look at log/{'sandbox' if name == 'mailbox' else 'postfix'}.log."
            found.append(fail(f"The sandbox's {name} does not greet on {host}:{settings.sandbox.smtp_port}.", fix))
    if not postfix:
        found.append(
            warn(
                "Postfix does not run; mail for inbox.test lands in the sandbox's mailbox instead.",
                "sudo apt-get install -y postfix, and start as root (Postfix changes users by design).",
            )
        )
    return found or [ok(f"The sandbox's {' and '.join(hosts)} greet.")]
