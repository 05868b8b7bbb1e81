"""``depesche doctor``: everything a start and a running stack need, each as one sentence with its state and its fix.

It changes nothing but for files that it writes and removes again to see whether that can be done. Parts of a stack that does not
run are not asked; that it does not run is said once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import psutil
from aiokafka.errors import KafkaError

from depesche.infra.load import Loaded, load
from depesche.infra.local import plan
from depesche.infra.local.home_lock import HomeLock, as_it_runs
from depesche.schemas.errors import DepescheError, SetupError
from depesche.schemas.settings import Settings

State = Literal["ok", "warn", "fail"]
CHECK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one thing.

    Attributes:
        state: ``ok``; ``warn``: it works, but not as it could; ``fail``: it does not work.
        sentence: what was found.
        fix: what to do about it; empty where nothing needs to be done.
        check: name of the check.
    """

    state: State
    sentence: str
    fix: str = ""
    check: str = ""


def ok(sentence: str) -> Finding:
    """All is well."""
    return Finding("ok", sentence)


def warn(sentence: str, fix: str) -> Finding:
    """It works, but not as it could."""
    return Finding("warn", sentence, fix)


def fail(sentence: str, fix: str) -> Finding:
    """It does not work."""
    return Finding("fail", sentence, fix)


@dataclass(frozen=True, slots=True)
class Case:
    """What is examined.

    Attributes:
        loaded: the configuration.
        owner: process id of the ``depesche up`` that runs on this home, if one does.
        programs: what it says about its programs: name to state and pid.
    """

    loaded: Loaded
    owner: int | None
    programs: Mapping[str, Mapping[str, Any]]

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.loaded.settings

    @property
    def log_expected(self) -> bool:
        """Whether a log should answer now."""
        return self.owner is not None or bool(self.settings.kafka.bootstrap)

    @property
    def store_expected(self) -> bool:
        """Whether a store should answer now."""
        return self.owner is not None or bool(self.settings.clickhouse.url)

    @property
    def sandbox_expected(self) -> bool:
        """Whether the far side on this machine should answer now."""
        return self.owner is not None and self.settings.sandbox.enabled

    def parts(self) -> frozenset[str]:
        """Names of the system's programs that belong to the running stack; without one, to the next that is started."""
        return frozenset(self.programs) if self.owner is not None else plan.inspect(self.settings).names

    def family(self) -> frozenset[int]:
        """Process ids of the running stack."""
        if self.owner is None:
            return frozenset()
        try:
            return frozenset(child.pid for child in psutil.Process(self.owner).children(recursive=True))
        except psutil.Error:
            return frozenset()


Check: TypeAlias = Callable[[Case], Awaitable[list[Finding]]]


async def examine(checks: Mapping[str, Check], environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Run the checks and give what they found, in their order; a configuration that cannot be is the only finding then."""
    try:
        loaded = as_it_runs(load(environ), environ)
    except SetupError as fault:
        return [Finding("fail", fault.public, fault.fix, "settings")]
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    case = case_of(loaded)
    found = await asyncio.gather(*(_run(name, check, case) for name, check in checks.items()))
    return [finding for findings in found for finding in findings]


def case_of(loaded: Loaded) -> Case:
    """What there is to examine with this configuration."""
    lock = HomeLock(loaded.settings.home)
    owner = lock.owner()
    programs = lock.content().get("programs") if owner is not None else None
    return Case(loaded, owner, programs if isinstance(programs, dict) else {})


async def _run(name: str, check: Check, case: Case) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            findings = await check(case)
    except SetupError as fault:
        findings = [fail(fault.public, fault.fix)]
    except TimeoutError:
        findings = [
            fail(f"No answer within {CHECK_SECONDS:g} s.", "Look at the logs in log/ under the home directory.")
        ]
    except (DepescheError, KafkaError, OSError) as fault:
        findings = [fail(f"{type(fault).__name__}: {fault}.", "Look at the logs in log/ under the home directory.")]
    return [replace(finding, check=name) for finding in findings]
