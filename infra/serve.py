"""A process of ours from its command line: read the settings, open the log, assemble the services, host them.

``depesche serve``, the commands of deployment and the supervisor all come through here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import prometheus_client
import setproctitle
import structlog

from depesche.infra import log
from depesche.infra.assemble import assemble
from depesche.infra.host import EXIT_FAILED, EXIT_SETUP, RunFile, host
from depesche.infra.layout import check_names, metrics_port
from depesche.infra.load import Loaded, load, profile_directory
from depesche.infra.local.fault import LocalFault
from depesche.schemas.errors import DepescheError, SetupError
from depesche.schemas.service import Service

_PR_SET_PDEATHSIG = 1


def serve(process: str, services: Sequence[str], loaded: Loaded) -> int:
    """Run the services in this process until it is told to stop; gives the exit code.

    Args:
        process: name that the process keeps over restarts.
        services: their names.
        loaded: the configuration.

    Raises:
        SetupError: there is no such service.
    """
    check_names(tuple(services))
    settings = loaded.settings
    log.configure(settings.log_level, process)
    logger = structlog.get_logger()
    for warning in loaded.warnings:
        logger.warning("configuration", reason=warning)
    setproctitle.setproctitle(f"depesche: {process}")

    async def build(stack: AsyncExitStack) -> list[Service]:
        return await assemble(services, settings, process, stack)

    profile = profile_directory()
    logger.info("process starts", services=list(services))
    try:
        _show_numbers(metrics_port(settings, process))
        return host(build, RunFile.of(settings.home, process), profile / f"{process}.pstats" if profile else None)
    except (SetupError, LocalFault) as fault:
        logger.error("process cannot start", reason=str(fault))
        return EXIT_SETUP
    except (DepescheError, OSError) as fault:
        logger.error("process cannot start", reason=str(fault) or type(fault).__name__)
        return EXIT_FAILED


def _show_numbers(port: int) -> None:
    """Let Prometheus on this machine ask for this process's numbers; raises OSError when the port is taken."""
    if port:
        prometheus_client.start_http_server(port, "127.0.0.1")


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when ``parent`` dies; ends at once when it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


def main(arguments: Sequence[str]) -> int:
    """``PARENT PROCESS SERVICE...``: what the supervisor runs."""
    end_with_parent(int(arguments[0]))
    return serve(arguments[1], arguments[2:], load())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
