"""One sentence when Kafka does not answer, instead of its client's many."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.settings import Settings


@contextmanager
def asking_kafka(settings: Settings) -> Iterator[None]:
    """Turn the client's failure to connect into LogUnavailableError."""
    from aiokafka.errors import KafkaError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaError, LogUnavailableError) as fault:
        raise LogUnavailableError(
            str(fault), public=f"Kafka does not answer on {settings.bootstrap}; is `depesche up` running?"
        ) from fault


def only_warnings() -> None:
    """Let parts of the service that a command uses tell their warnings on standard error, and nothing else anywhere."""
    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
