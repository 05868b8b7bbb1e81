"""How the person at the terminal calls this command, so that every line we print can be pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def command_name() -> str:
    """``depesche`` when that finds us, else the path of the command as seen from the current directory."""
    own = Path(sys.executable).with_name("depesche")
    found = shutil.which("depesche")
    if found is not None and Path(found).resolve() == own.resolve():
        return "depesche"
    relative = os.path.relpath(own)
    return shlex.quote(relative if not relative.startswith("../..") else str(own))
