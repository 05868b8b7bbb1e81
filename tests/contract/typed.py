"""Commands of ours as typed, but in this process: a start of Python for each would take longer than what they do."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from unittest import mock

import structlog

from depesche.infra.cli.main import main


@dataclass(frozen=True)
class Typed:
    """How a command ended and what it said; the names are those of ``subprocess.CompletedProcess``."""

    returncode: int
    stdout: str
    stderr: str


def typed(environment: Mapping[str, str], *arguments: str) -> Typed:
    """Run ``depesche`` with these arguments and with nothing but this environment."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["depesche", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _logging_as_before(),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Typed(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _logging_as_before() -> Iterator[None]:
    """A command sets how its process logs; what comes after it here must not log into what it has said."""
    levels = {name: logger.level for name, logger in _loggers()}
    configured = structlog.get_config() if structlog.is_configured() else None
    try:
        yield
    finally:
        for name, logger in _loggers():
            logger.setLevel(levels.get(name, logging.NOTSET))
        structlog.reset_defaults()
        if configured is not None:
            structlog.configure(**configured)


def _loggers() -> Iterator[tuple[str, logging.Logger]]:
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            yield name, logger
