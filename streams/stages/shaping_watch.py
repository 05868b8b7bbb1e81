"""The shaping file in force: the shipped blocks with the operator's file over them, read anew within two seconds of a change.

A changed file that is not valid changes nothing: the last good one stays, the log says what is wrong, and so does the doctor. At
the start there is no last good one, so a file that is not valid ends the process: a limit that somebody set must not vanish
by a restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings
from depesche.streams.mail.shaping.book import ShapingBook, shipped
from depesche.streams.mail.shaping.reading import Blocks, read
from depesche.streams.mail.shaping.shape import Shape

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_Stamp = tuple[int, int, int]


class ShapingWatch:
    """Whoever wants a shape asks here; asking is also what makes it look at the file, once a second at most."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the files.

        Args:
            settings: where the operator's file is, and what holds where no file says anything.
            clock: monotonic seconds.

        Raises:
            SetupError: the operator's file is not valid.
        """
        self._settings = settings
        self._path = settings.shaping_file
        self._clock = clock
        self._looked = clock()
        self._stamp = _stamp(self._path)
        self.book = book_of(settings)

    def of(self, provider: str) -> Shape:
        """The shape of a provider as it is now; the same object until something changes."""
        now = self._clock()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._look()
        return self.book.of(provider)

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.book = book_of(self._settings)
        except SetupError as fault:
            log.error("shaping_file_refused", cause=str(fault), fix=fault.fix)
        else:
            log.info("shaping_file_read", file=self._path.name, providers=len(self.book.providers))


def book_of(settings: Settings) -> ShapingBook:
    """The shapes as the files are now.

    Raises:
        SetupError: the operator's file is not valid.
    """
    path = settings.shaping_file
    own = read_file(path) if path.exists() else {}
    return ShapingBook(settings.deliver, own, shipped())


def read_file(path: Path) -> Blocks:
    """The blocks of a shaping file.

    Raises:
        SetupError: it cannot be read, or is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise SetupError(f"{path}: {fault.strerror}", fix="Name a file that can be read.") from fault
    except UnicodeDecodeError as fault:
        raise SetupError(f"{path}: not UTF-8", fix="Save it as UTF-8.") from fault
    return read(text, path.name)


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
