"""From events of the log to the columns of ``events``, ``units`` and ``states``; pure but for the keys it is handed.

Hot: every event of every unit passes here. So events are dictionaries and tuples, never records, and columns are built per
batch by transposing (measured: decoding costs 10 µs per event, all the rest 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from typing import Any, Protocol

import orjson
import pyarrow as pa

from depesche.schemas.codec import codec
from depesche.schemas.errors import ContentLostError, UndecodableError
from depesche.schemas.identity import job_of
from depesche.schemas.records import EventType, MailEvent, Personal
from depesche.schemas.vocabulary import ANNOTATIONS_FROM, FINAL_TYPES

ROW_FAULTS = (UndecodableError, ValueError, TypeError, KeyError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError)
"""What a record raises here that no table can take: it is buried, and the others go on."""

_ANNOTATING = frozenset(
    {EventType.COMPLAINED, EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED, EventType.STORED}
    | {EventType.RESENT}
)
_BOUNCED = EventType.BOUNCED.value
_FINAL = frozenset(kind.value for kind in FINAL_TYPES)
_NOT_A_STATE = frozenset(kind.value for kind in _ANNOTATING)
_LAST_MS = 4_102_444_800_000  # 2100-01-01: an id that says later was not made by us.
_OFFSETS = 1 << 40
_FINAL_RANK = 1_000_000

_COMMON = (
    *("tenant", "unit_id", "event_id", "type", "occurred_at", "sequence", "attempt", "account", "recipient_key"),
    *("cause_id", "worker", "provider", "sender_domain", "recipient_domain"),
)
_ADDED = (
    *("accepted_at", "final", "source_topic", "source_partition", "source_offset"),
    *("recipient", "reply_text", "transcript", "finding"),
)
_PERSONAL = ("recipient", "reply_text", "transcript", "finding")
_ATTEMPT = (
    *("host", "remote_ip", "source_ip", "tls", "code", "enhanced_code", "step", "reply_class", "kind", "queue_id"),
    *("millis", "next_attempt_at", "ambiguous"),
)
_ATTEMPT_MORE = ("rule", "rules_version", "pool", "tls_policy")
_ACCEPTED = (
    *("interface", "message_id", "size", "block", "reference_job", "cost_center", "campaign_id", "reference"),
    "expires_at",
)
_SENDER = ("mail_from", "header_from", "subject", "client")
_RETURNED = ("code", "enhanced_code", "reply_class", "kind", "host", "detail")
_OTHER = ("reason", "stage", "detail")

_TIME = pa.timestamp("ms", "UTC")
_TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("accepted_at", "occurred_at", "expires_at", "next_attempt_at"), _TIME),
    **dict.fromkeys(("sequence", "millis", "size"), pa.uint32()),
    **dict.fromkeys(("attempt", "source_partition", "code", "block"), pa.uint16()),
    **dict.fromkeys(("final", "ambiguous"), pa.bool_()),
    "source_offset": pa.uint64(),
}
_UNITS = (
    *("tenant", "accepted_at", "unit_id", "account", "sender_domain", "recipient_domain", "recipient_key", "recipient"),
    *_ACCEPTED,
    *_SENDER,
)
_STATES = {
    **{name: name for name in ("tenant", "accepted_at", "unit_id", "sequence", "account", "sender_domain")},
    **{name: name for name in ("recipient_domain", "provider", "reason", "host", "code", "enhanced_code")},
    **{name: name for name in ("reply_class", "kind", "reply_text", "next_attempt_at", "ambiguous", "source_offset")},
    **{"type": "status", "occurred_at": "changed_at", "attempt": "attempts"},
}

Raw = Mapping[str, Any]


class Key(Protocol):
    """A data key: see ``archive.keyring.DataKey``."""

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        """The plain bytes; raises ContentLostError."""
        ...


class Keys(Protocol):
    """What is needed of the keyring."""

    def key(self, key_id: str) -> Key:
        """The key with this id; raises ContentLostError when it was erased."""
        ...


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows ready to insert, one Arrow table for each table of the store."""

    events: pa.Table
    units: pa.Table
    states: pa.Table


@dataclass(slots=True)
class _Group:
    """Events whose columns are the same."""

    columns: tuple[str, ...]
    details: Callable[[Raw, Raw], Iterable[Any]]
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def table(self) -> pa.Table:
        turned = zip(*self.rows, strict=True)
        return pa.table({name: _column(name, values) for name, values in zip(self.columns, turned, strict=True)})


class EventRows:
    """Collects events and turns them into tables. ``erased``: events whose personal fields nobody can read any more."""

    def __init__(self, keys: Keys) -> None:
        self.erased = 0
        self._keys = keys
        self._event = codec(MailEvent)
        self._personal = codec(Personal)
        self._accepted = _Group((*_COMMON, *_ADDED, *_ACCEPTED, *_SENDER), _accepted_details)
        self._attempted = _Group((*_COMMON, *_ADDED, *_ATTEMPT, "detail"), _attempt_details)
        self._returned = _Group((*_COMMON, *_ADDED, *_RETURNED), _returned_details)
        self._others = _Group((*_COMMON, *_ADDED, *_OTHER), _other_details)
        self._standing: dict[tuple[str, str], tuple[int, _Group, int]] = {}
        self._times: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return sum(len(group.rows) for group in self._groups())

    def add(self, topic: str, partition: int, offset: int, value: bytes | None) -> None:
        """Take the event at this place of the log.

        Raises:
            UndecodableError, ValueError, KeyError, TypeError: it is none, or one that cannot be.
        """
        raw = self._event.raw(value or b"")
        unit_id = raw["unit_id"]
        accepted_at = self._times.get((unit_id, raw["job_id"]))
        if accepted_at is None:
            accepted_at = self._times[unit_id, raw["job_id"]] = accepted_at_of(unit_id, raw["job_id"])
        kind, sequence = raw["type"], raw["sequence"]
        final = is_final(kind, sequence)
        personal = self._opened(raw)
        group = self._group(raw)
        details = group.details(raw["detail"][1] if raw["detail"] else {}, personal)
        row = (*_common(raw), accepted_at, final, topic, partition, offset, *_words(personal), *details)
        self._stand((raw["tenant"], unit_id), kind, sequence, offset, group)
        group.rows.append(row)

    def tables(self) -> Tables:
        """All that was taken.

        Raises:
            ValueError, OverflowError, pyarrow.ArrowInvalid: a value does not fit its column. Which event it was is found
            by taking each alone.
        """
        kept = [group for group in self._groups() if group.rows]
        if not kept:
            return Tables(pa.table({}), pa.table({}), pa.table({}))
        parts = {id(group): group.table() for group in kept}
        starts = dict(zip(parts, accumulate((len(group.rows) for group in kept), initial=0), strict=False))
        whole = pa.concat_tables(parts.values(), promote_options="default")
        standing = self._standing.values()
        # With its type, because a batch of nothing but annotations has no last step at all.
        last = pa.array([starts[id(group)] + index for _, group, index in standing], pa.int64())
        units = parts[id(self._accepted)].select(_UNITS) if self._accepted.rows else pa.table({})
        there = [name for name in _STATES if name in whole.column_names]
        states = whole.select(there).take(last).rename_columns([_STATES[name] for name in there])
        ended = [version >= _FINAL_RANK * _OFFSETS for version, _, _ in standing]
        states = states.append_column("final", pa.array(ended, pa.bool_()))
        return Tables(whole.drop_columns(_only_of_units(whole)), units, states)

    def _groups(self) -> Iterable[_Group]:
        return (self._accepted, self._attempted, self._returned, self._others)

    def _group(self, raw: Raw) -> _Group:
        detail = raw["detail"]
        if detail is None:
            return self._others
        if detail[0] == "depesche.AttemptDetail":
            return self._attempted
        if detail[0] == "depesche.ReturnedDetail":
            return self._returned
        return self._accepted if detail[0] == "depesche.AcceptedDetail" else self._others

    def _stand(self, unit: tuple[str, str], kind: str, sequence: int, offset: int, group: _Group) -> None:
        """Remember the event if it is the unit's last step so far; the store does the same over batches (states.sql)."""
        rank = rank_of(kind, sequence)
        if rank is None:
            return
        version = rank * _OFFSETS - offset
        known = self._standing.get(unit)
        if known is None or known[0] < version:
            self._standing[unit] = (version, group, len(group.rows))

    def _opened(self, raw: Raw) -> Raw:
        sealed = raw["sealed_personal"]
        if not sealed:
            return _NOTHING
        try:
            plain = self._keys.key(raw["key_id"]).open(sealed, b"event|" + raw["event_id"].encode())
            return self._personal.raw(plain)
        except (ContentLostError, UndecodableError):
            # The person is gone; that it happened stays, or the counts would no longer be those of the log.
            self.erased += 1
            return _NOTHING


def accepted_at_of(unit_id: str, job_id: str) -> int:
    """When the job was taken, in milliseconds: the time within its id (UUIDv7, RFC 9562 5.7), the same for all its events.

    Raises:
        ValueError: the job id is no UUIDv7 or the unit is not one of its units.
    """
    if len(job_id) != 36 or job_id[14] != "7" or job_of(unit_id) != job_id:
        raise ValueError("the job id is no UUIDv7, or the unit is not of this job")
    moment = int(job_id[:8] + job_id[9:13], 16)
    if moment > _LAST_MS:
        raise ValueError("the job id lies in the future")
    return moment


def is_final(kind: str, sequence: int) -> bool:
    """Whether an event ends its unit's way: a final type, unless it only annotates what has ended before."""
    return kind in _FINAL and sequence < ANNOTATIONS_FROM


def rank_of(kind: str, sequence: int) -> int | None:
    """How an event ranks as the last step of its unit, a final one above all others; None: it is no step (states.sql)."""
    if kind in _NOT_A_STATE or (sequence >= ANNOTATIONS_FROM and not is_late_bounce(kind, sequence)):
        return None
    return sequence + _FINAL_RANK * (kind in _FINAL)


def stands_ended(rank: int) -> bool:
    """Whether a unit whose last step has this rank stands at an end."""
    return rank >= _FINAL_RANK


def is_late_bounce(kind: str, sequence: int) -> bool:
    """Whether an event tells that a mail came back after the far side had taken it."""
    return kind == _BOUNCED and sequence >= ANNOTATIONS_FROM


_NOTHING: Raw = dict.fromkeys((*_PERSONAL, *_SENDER))
_common = itemgetter(*_COMMON)
_words = itemgetter(*_PERSONAL)
_accepted = itemgetter(*_ACCEPTED)
_sender = itemgetter(*_SENDER)
_attempt = itemgetter(*_ATTEMPT)
_report = itemgetter("code", "enhanced_code", "reply_class", "kind", "reporter")


def _accepted_details(detail: Raw, personal: Raw) -> Iterable[Any]:
    return (*_accepted(detail), *_sender(personal))


def _attempt_details(detail: Raw, personal: Raw) -> Iterable[Any]:
    more = {name: detail[name] for name in _ATTEMPT_MORE if detail[name]}
    return (*_attempt(detail), orjson.dumps(more).decode() if more else "")


def _returned_details(detail: Raw, personal: Raw) -> Iterable[Any]:
    rest = {name: detail[name] for name in ("source", "feedback_type", "rule", "rules_version", "suppress", "place")}
    return (*_report(detail), orjson.dumps(rest).decode())


def _other_details(detail: Raw, personal: Raw) -> Iterable[Any]:
    rest = {name: value for name, value in detail.items() if name not in ("reason", "stage") and value is not None}
    text = orjson.dumps(rest).decode() if rest else ""
    # A drop's reason and a failure's error code answer the same question; what came back has a reply code, which does not.
    code = detail.get("code", "")
    return detail.get("reason") or (code if isinstance(code, str) else ""), detail.get("stage", ""), text


def _column(name: str, values: tuple[Any, ...]) -> pa.Array:
    kind = _TYPES.get(name)
    if kind is None:
        return pa.array(values, pa.string())
    return pa.array(values, pa.int64()).cast(kind) if kind is _TIME else pa.array(values, kind)


def _only_of_units(whole: pa.Table) -> list[str]:
    return [name for name in (*_ACCEPTED, *_SENDER) if name in whole.column_names]
