"""The Idempotency-Key header (IETF draft-ietf-httpapi-idempotency-key-header-07): a quoted string, or bare as most send it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson
from fastapi import Request

from depesche.schemas.errors import InvalidRequestError

MAX_KEY = 255
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"\Z')
_BARE = re.compile(r"[\x21-\x7e]+\Z")


def idempotency_key(request: Request) -> str | None:
    """The key of this request, if it has one.

    Raises:
        InvalidRequestError: it is given twice, empty, longer than 255 characters, or not visible ASCII.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    text = given[0].strip()
    quoted = _QUOTED.match(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(given) > 1 or not 0 < len(key) <= MAX_KEY or not (quoted or (_BARE.match(key) and '"' not in key)):
        raise InvalidRequestError(
            "idempotency key",
            public="Idempotency-Key must be given once, with 1 to 255 visible characters",
            pointer="Idempotency-Key",
        )
    return key


def fingerprint(operation: str, content: Any) -> str:
    """Hash of the canonical request: whatever order the keys come in, the same request has the same fingerprint."""
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(operation.encode() + b"\0" + canonical).hexdigest()
