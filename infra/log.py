"""Logs: one JSON object per line on standard error, from our code and from every library, with secrets and addresses masked.

A log is read by more people than the mail it tells about, and is kept longer; so an address shows its first letter and its
domain, and a value whose name says that it is secret is never written.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, TextIO, cast

import orjson
import structlog

_ADDRESS = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]{1,64})@([A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+)")
_SECRET_NAMES = re.compile(r"(?i)password|secret|token|authorization|api_?key|master_?key|private_?key|cookie")
#: Libraries that tell each reconnect or request; their warnings are still heard.
_TALKATIVE = ("aiokafka", "faust", "mode", "uvicorn.access", "mail.log", "asyncio", "clickhouse_connect", "httpx")


def configure(level: str, process: str) -> None:
    """Send every log of this process to standard error as JSON lines.

    Args:
        level: lowest level that is written: debug, info, warning or error.
        process: name of this process, written on each line.
    """
    _configure(level, process, sys.stderr)


def configure_file(level: str, process: str, file: Path) -> None:
    """Send every log of this process to a file, because its terminal belongs to a person."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _configure(level, process, file.open("a", encoding="utf-8", buffering=1))


class Unfailing(io.TextIOBase):
    """A stream whose disk may be full: what cannot be written is counted and told when it can be again.

    A log line is never worth the mail at hand; without this, a full disk would raise out of the middle of a stage.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, text: str) -> int:
        """Write if that is possible."""
        try:
            if self._lost and text.strip():
                self._stream.write(f'{{"event":"log lines lost","level":"warning","count":{self._lost}}}\n')
                self._stream.flush()
                self._lost = 0
            self._stream.write(text)
        except OSError:
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Have it written if that is possible."""
        try:
            self._stream.flush()
        except OSError:
            self._lost += 1


def _configure(level: str, process: str, stream: TextIO) -> None:
    safe = Unfailing(stream)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, masked, _to_json],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, safe)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(safe)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                masked,
                _to_json,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def masked(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The event without secrets and with addresses cut to ``a***@domain``; a structlog processor."""
    return {name: _masked_value(name, value) for name, value in event.items()}


def _masked_value(name: str, value: Any) -> Any:
    if _SECRET_NAMES.search(name):
        return "***"
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, Mapping):
        return {str(key): _masked_value(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked_value("", inner) for inner in value]
    if isinstance(value, (int, float, bool)) or value is None:
        return value
    return masked_text(str(value))


def masked_text(text: str) -> str:
    """``text`` with every address cut to its first letter and its domain."""
    return _ADDRESS.sub(lambda found: f"{found[1][0]}***@{found[2]}", text) if "@" in text else text


def _named(process: str) -> Any:
    def name(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return name


def _to_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str).decode()
