"""Role accounts: local parts that belong to an office and not to a person (RFC 2142).

They get no mail from us and may not be a sender (mission B1, D6). Deliberately narrow: ``info``, ``sales`` or ``support`` are
how companies are reached, and a list that holds them would refuse ordinary mail. A customer may widen or empty the list of
recipients (``Account.role_recipients``).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_TECHNICAL = (
    "abuse admin administrator ftp hostmaster mailer-daemon noc postmaster root security usenet uucp webmaster www"
)
ROLE_SENDERS: Final = frozenset(_TECHNICAL.split())
"""Local parts that may not send."""
ROLE_RECIPIENTS: Final = ROLE_SENDERS | {"news", "noreply"}
"""Local parts that get no mail unless the account says otherwise; ``news@`` and ``noreply@`` do send."""


def is_role(local: str, parts: Collection[str]) -> bool:
    """Whether a local part is one of ``parts``, in whatever case, quoted (RFC 5321 4.1.2) or with a ``+`` tag."""
    if len(local) > 1 and local.startswith('"') and local.endswith('"'):
        local = local[1:-1].replace("\\", "")
    name = local.partition("+")[0].lower()
    return any(name == part.lower() for part in parts)
