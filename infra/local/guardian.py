"""Ends what the supervisor has started when the supervisor itself is gone.

``kill -9`` leaves nobody who could stop the children, and the kernel's parent-death signal is lost as soon as a child changes
its user (clamd and Postfix do). So a small process of its own holds the other end of a pipe: the kernel closes the pipe
with the supervisor, whatever ended it, and the guardian then stops every process group it was told of. It also holds the
lock of the home directory until that is done, so that a new start cannot meet the remains of the old one.

Run as a plain script without site packages; it must stay within the standard library. Lines it reads: ``+GROUP`` and
``-GROUP``.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable

STOP_SECONDS = 20.0
"""How long the groups have between SIGTERM and SIGKILL."""


def main() -> int:
    """Read until the pipe ends, then stop what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: list[int] = []
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.append(group)
        elif group in groups:
            groups.remove(group)
    end(groups[::-1])
    return 0


def end(groups: Iterable[int]) -> None:
    """SIGTERM to each group, and SIGKILL to those that are still there after ``STOP_SECONDS``."""
    left = [group for group in groups if send(group, signal.SIGTERM)]
    deadline = time.monotonic() + STOP_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [group for group in left if send(group, 0)]
    for group in left:
        send(group, signal.SIGKILL)


def send(group: int, number: int) -> bool:
    """Signal a process group; whether it is still there."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # A member runs as another user: it is there, and its own master ends it.
        return True
    return True


if __name__ == "__main__":
    sys.exit(main())
