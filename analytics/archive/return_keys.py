"""The return keys of this house: made under a secret that follows from the master key, so that every process has the same."""

from __future__ import annotations

from depesche.analytics.archive.keyring import Keyring
from depesche.schemas.return_key import ReturnKeys


def return_keys(keyring: Keyring) -> ReturnKeys:
    """The keys. A second secret would come in here beside the first, which is read until its last mail is forgotten."""
    return ReturnKeys({"1": keyring.pepper("returns")}, current="1")
