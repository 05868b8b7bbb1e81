"""Which shape a provider has: the operator's file laid over the one shipped, both over the settings.

For each key the first that says something holds: the operator's block for the provider, the shipped block for it, the operator's
``default``, the shipped ``default``, the settings. Rules on answers and suspend rules add up in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from depesche.schemas.settings import DeliverSettings
from depesche.streams.mail.shaping.reading import DEFAULT, KEYS, Block, Blocks, read
from depesche.streams.mail.shaping.shape import Shape

_NOTHING = Block()
_BY_SETTINGS = {
    "connections": "connections_per_route",
    "messages_per_connection": "messages_per_connection",
    "ladder": "ladder",
}
_PLAIN: dict[str, Any] = {"rate": None, "tls": "may", "shards": 1, "lifetime": None}
SHIPPED = "shipped"


class ShapingBook:
    """The shapes in force. Immutable: a changed file makes a new one."""

    def __init__(self, settings: DeliverSettings, *layers: Blocks) -> None:
        """Lay ``layers`` over each other, the one that counts most first; without any: the shipped one."""
        self._settings = settings
        self._layers = layers or (shipped(),)
        self._shapes: dict[str, Shape] = {}

    def of(self, provider: str) -> Shape:
        """The shape of a provider. Costs a tenth of a microsecond after the first time."""
        shape = self._shapes.get(provider)
        if shape is None:
            shape = self._shapes[provider] = self._made(provider)
        return shape

    @property
    def providers(self) -> tuple[str, ...]:
        """Providers that have a block of their own, sorted."""
        return tuple(sorted({name for layer in self._layers for name in layer} - {DEFAULT}))

    def _blocks(self, provider: str) -> Iterator[Block]:
        for name in (provider, DEFAULT):
            for layer in self._layers:
                yield layer.get(name, _NOTHING)

    def _made(self, provider: str) -> Shape:
        blocks = tuple(self._blocks(provider))
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for key in KEYS:
            said = next((block.values[key] for block in blocks if key in block.values), None)
            values[key], origins[key] = said or self._by_default(key)
        return Shape(
            provider=provider,
            connections=values["connections"],
            per_minute=values["rate"],
            messages_per_connection=values["messages_per_connection"],
            ladder=values["ladder"],
            tls=values["tls"],
            shards=values["shards"],
            lifetime=values["lifetime"],
            answers=tuple(rule for block in blocks for rule in block.answers),
            suspends=tuple(rule for block in blocks for rule in block.suspends),
            origins=origins,
        )

    def _by_default(self, key: str) -> tuple[Any, str]:
        if key in _BY_SETTINGS:
            return getattr(self._settings, _BY_SETTINGS[key]), f"setting deliver.{_BY_SETTINGS[key]}"
        return _PLAIN[key], "no limit" if key in ("rate", "lifetime") else "built in"


@cache
def shipped() -> Blocks:
    """The blocks shipped with this version."""
    return read(shipped_text(), SHIPPED)


def shipped_text() -> str:
    """The shaping file shipped with this version, as it is written."""
    return files("depesche.streams.mail.shaping").joinpath("shaping.toml").read_text(encoding="utf-8")
