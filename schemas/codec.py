"""Bytes to record and back, in the Confluent framing, refusing what it does not know.

A value is one zero byte, the schema id in four bytes (big-endian) and the Avro body, so that any Kafka tool with a
registry can read the log. fastavro writes; the contract tests hold it byte for byte against Apache avro.
"""

from __future__ import annotations

import io
import struct
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, ClassVar, Protocol, Self, TypeVar

import fastavro

from depesche.schemas import records
from depesche.schemas.errors import UndecodableError
from depesche.schemas.generate import Schema, load


class Record(Protocol):
    """What every generated class offers."""

    def to_avro(self) -> dict[str, Any]:
        """The value as the codec writes it."""
        ...

    @classmethod
    def from_avro(cls, raw: Any) -> Self:
        """The record that ``to_avro`` was made of."""
        ...


R = TypeVar("R", bound=Record)

PREFIX = struct.Struct(">BI")


def schema_ids() -> dict[str, int]:
    """Record name to schema id, from the lock file."""
    text = resources.files("depesche.schemas.avro").joinpath("ids.lock.toml").read_text()
    return dict(tomllib.loads(text)["ids"])


def _without_logical_types(schema: Schema) -> Schema:
    """Drop logicalType, so that times stay whole milliseconds; the bytes on the wire are the same."""
    if isinstance(schema, list):
        return [_without_logical_types(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if "logicalType" in schema:
        return schema["type"]
    changed = {k: _without_logical_types(v) if k in ("type", "items", "values") else v for k, v in schema.items()}
    if "fields" in schema:
        changed["fields"] = [_without_logical_types(field) for field in schema["fields"]]
    return changed


def self_contained(name: str) -> Schema:
    """The Avro schema of record ``name`` with every type it refers to written out at its first use.

    This is the text a registry serves and a foreign reader needs.
    """
    named: dict[str, Schema] = {}
    for schema in load():
        _collect(schema, named)
    return _inlined(named[name], named, set())


def _collect(schema: Schema, named: dict[str, Schema]) -> None:
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, named)
    elif isinstance(schema, dict):
        if schema.get("type") in ("record", "enum"):
            named[schema["name"]] = schema
        for key in ("type", "items", "values"):
            _collect(schema.get(key), named)
        for field in schema.get("fields", []):
            _collect(field, named)


def _inlined(schema: Schema, named: dict[str, Schema], seen: set[str]) -> Schema:
    if isinstance(schema, str):
        return _inlined(named[schema], named, seen) if schema in named and schema not in seen else schema
    if isinstance(schema, list):
        return [_inlined(branch, named, seen) for branch in schema]
    if schema.get("type") in ("record", "enum"):
        seen.add(schema["name"])
    changed = {k: _inlined(v, named, seen) if k in ("items", "values") else v for k, v in schema.items()}
    if schema.get("type") == "record":
        changed["fields"] = [{**f, "type": _inlined(f["type"], named, seen)} for f in schema["fields"]]
    elif isinstance(schema.get("type"), dict | list):
        changed["type"] = _inlined(schema["type"], named, seen)
    return changed


class Codec:
    """Encodes and decodes one record type; make it once and keep it (see ``codec``)."""

    known: ClassVar[dict[str, int]] = {}

    def __init__(self, kind: type[Record], schema_id: int) -> None:
        self.kind = kind
        self.schema_id = schema_id
        self._prefix = PREFIX.pack(0, schema_id)
        self._schema = fastavro.parse_schema(_without_logical_types(self_contained(kind.__name__)))
        self._write: Callable[..., None] = fastavro.schemaless_writer
        self._read: Callable[..., Any] = fastavro.schemaless_reader

    def encode(self, record: Record) -> bytes:
        """The framed bytes of ``record``.

        Raises:
            ValueError, TypeError: a field has the wrong type, which is a bug of ours.
        """
        out = io.BytesIO()
        out.write(self._prefix)
        self._write(out, self._schema, record.to_avro())
        return out.getvalue()

    def decode(self, value: bytes) -> Any:
        """The record in ``value``.

        Raises:
            UndecodableError: not our framing, another schema, or a damaged body.
        """
        try:
            return self.kind.from_avro(self.raw(value))
        except (ValueError, KeyError, TypeError) as fault:
            raise UndecodableError(f"{self.kind.__name__}: damaged body ({type(fault).__name__})") from fault

    def raw(self, value: bytes) -> dict[str, Any]:
        """What is in ``value`` as the dictionary that ``from_avro`` takes; half the price of a record, for the sink.

        Raises:
            UndecodableError: see ``decode``.
        """
        if value[:5] != self._prefix:
            raise UndecodableError(f"expected schema {self.schema_id} ({self.kind.__name__}), got {value[:5].hex()}")
        try:
            stream = io.BytesIO(value)
            stream.seek(5)
            raw: dict[str, Any] = self._read(
                stream, self._schema, return_record_name=True, return_record_name_override=True
            )
            return raw
        except (EOFError, ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError) as fault:
            raise UndecodableError(f"{self.kind.__name__}: damaged body ({type(fault).__name__})") from fault


@cache
def codec(kind: type[Record]) -> Codec:
    """The codec of a generated class; the same object each time."""
    return Codec(kind, schema_ids()[kind.__name__])


def encode(record: Record) -> bytes:
    """The framed bytes of ``record``; see ``Codec.encode``."""
    return codec(type(record)).encode(record)


def decode(kind: type[R], value: bytes) -> R:
    """The record of class ``kind`` in ``value``; see ``Codec.decode``."""
    record: R = codec(kind).decode(value)
    return record


def event_from(value: bytes) -> records.MailEvent:
    """The event in ``value``, the commonest case, spelled once."""
    return decode(records.MailEvent, value)
