"""The EICAR test file, and a signature for it in clamd's own formats.

Every virus scanner agrees to call this harmless file a virus, so it shows that scanning works. It is put together here at
run time: a repository that held it in one piece would be quarantined on the machine of whoever clones it.
"""

import hashlib

_PIECES = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}", "$EICAR-STANDARD", "-ANTIVIRUS-TEST-FILE!", "$H+H*")

SIGNATURE_NAME = "Depesche.Test.EICAR"


def eicar() -> bytes:
    """Return the 68 bytes of the test file."""
    return "".join(_PIECES).encode("ascii")


def body_signature() -> str:
    """Return the line of an `.ndb` file that finds the test file anywhere in a file of any type."""
    return f"{SIGNATURE_NAME}:0:*:{eicar().hex()}\n"


def hash_signature() -> str:
    """Return the line of an `.hdb` file that finds a file which is the test file and nothing else."""
    return f"{hashlib.md5(eicar(), usedforsecurity=False).hexdigest()}:{len(eicar())}:{SIGNATURE_NAME}.Whole\n"
