"""Who holds the lock on a file? Kafka and ClickHouse both lock their directory; their own message comes late or not at all."""

import errno
import fcntl
import os
import struct
from pathlib import Path

# struct flock on 64-bit Linux: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"


def lock_holder(path: Path) -> int | None:
    """Return the id of the process that holds a POSIX write lock on `path`, or None if nobody does (or no such file).

    Takes no lock itself. Linux only; elsewhere it answers None, and the server's own check has to do.
    """
    if os.uname().sysname != "Linux" or not path.exists():
        return None
    with path.open("r+b") as file:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOLCK, errno.ENOTSUP):
                return None
            raise
    kind, _, _, _, holder = struct.unpack(_FLOCK, answer)
    return None if kind == fcntl.F_UNLCK else int(holder)
